"""langchain-openai against a running cllm (CLLM_URL): whole, streamed, batched, tools, structured output."""

import importlib.metadata
import os

from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI
from pydantic import BaseModel

there = {"base_url": os.environ["CLLM_URL"] + "/v1", "api_key": "none", "model": "cllm", "max_retries": 0}
chat = ChatOpenAI(temperature=0, stream_usage=True, **there)
QUESTION = [SystemMessage("Be brief."), HumanMessage("How do I change the port?")]

whole = chat.invoke(QUESTION)
assert "port" in whole.content and whole.response_metadata["finish_reason"] == "stop", whole
pieces = list(chat.stream(QUESTION))
assert len(pieces) > 3 and "".join(piece.content for piece in pieces) == whole.content, pieces
joined = pieces[0]
for piece in pieces[1:]:
    joined += piece
assert joined.usage_metadata["output_tokens"] == whole.usage_metadata["output_tokens"], joined
assert [answer.content for answer in chat.batch([QUESTION, QUESTION])] == [whole.content] * 2


@tool
def get_weather(city: str) -> str:
    """Weather of a city"""
    return f"sunny in {city}"


able = chat.bind_tools([get_weather])
turns = [HumanMessage("What is the weather in Paris?")]
asked = able.invoke(turns)
(call,) = asked.tool_calls
assert (call["name"], call["args"]) == ("get_weather", {"city": "Paris"}), asked
told = able.invoke([*turns, asked, ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"])])
assert told.content and not told.tool_calls, told


class Person(BaseModel):
    name: str
    age: int


for method in ("json_schema", "function_calling"):
    person = chat.with_structured_output(Person, method=method)
    found = person.invoke("Anna is 31 years old. Give me name and age as JSON.")
    assert found == Person(name="Anna", age=31), (method, found)

completion = OpenAI(temperature=0, max_tokens=8, **there)
assert completion.invoke("Once upon a time") == "".join(completion.stream("Once upon a time")) != ""
print("langchain-openai", importlib.metadata.version("langchain-openai"), "is content")
