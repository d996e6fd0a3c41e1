"""Python's openai against a running cllm: CLLM_URL names it."""

import asyncio
import os

import openai
from pydantic import BaseModel

URL = os.environ["CLLM_URL"] + "/v1"
QUESTION = [{"role": "user", "content": "How do I change the port?"}]
GREEDY = {"model": "cllm", "temperature": 0}
client = openai.OpenAI(base_url=URL, api_key="none", max_retries=0)


def refused(param, call):
    try:
        call()
    except openai.BadRequestError as error:
        assert error.param == param, error
    else:
        raise AssertionError(f"{param} was accepted")


whole = client.chat.completions.create(messages=QUESTION, **GREEDY)
text = whole.choices[0].message.content
assert "port" in text and whole.choices[0].finish_reason == "stop", whole
assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens

events = list(client.chat.completions.create(
    messages=QUESTION, stream=True, stream_options={"include_usage": True}, **GREEDY))
assert "".join(e.choices[0].delta.content or "" for e in events if e.choices) == text
assert events[-1].usage.completion_tokens == whole.usage.completion_tokens

scored = client.chat.completions.create(
    messages=QUESTION, logprobs=True, top_logprobs=3, n=2, max_completion_tokens=5, **GREEDY)
assert len(scored.choices) == 2 and len(scored.choices[1].logprobs.content[0].top_logprobs) == 3

completion = client.completions.create(prompt=["Once upon a time", "The port"], max_tokens=4, logprobs=1, **GREEDY)
assert [len(c.logprobs.tokens) for c in completion.choices] == [4, 4]
assert "".join(e.choices[0].text for e in client.completions.create(
    prompt="Once upon a time", max_tokens=4, stream=True, **GREEDY)) == completion.choices[0].text

named = client.chat.completions.with_raw_response.create(
    messages=QUESTION, extra_headers={"X-Request-Id": "mine-1"}, extra_body={"top_k": 1, "ignore_eos": False}, **GREEDY)
assert named.headers["x-request-id"] == "mine-1" and named.parse().choices[0].message.content == text

refused("n", lambda: client.chat.completions.create(messages=QUESTION, n=99, **GREEDY))
refused("messages[0].role", lambda: client.chat.completions.create(messages=[{"role": "king", "content": ""}], **GREEDY))

response = client.responses.create(input="How do I change the port?", **GREEDY)
assert response.status == "completed" and "port" in response.output_text, response
assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens
with client.responses.stream(input="How do I change the port?", **GREEDY) as stream:
    events = list(stream)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert stream.get_final_response().output_text == response.output_text
LOOK = {"type": "function", "name": "get_weather", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}
called = client.responses.create(
    input="What is the weather in Paris?", tools=[LOOK, {"type": "web_search"}], tool_choice="required", max_output_tokens=200, **GREEDY)
call = next(item for item in called.output if item.type == "function_call")
assert call.name == "get_weather" and called.status in ("completed", "incomplete"), called
client.responses.create(
    input=[{"role": "user", "content": "What is the weather in Paris?"}, call.model_dump(exclude_none=True),
           {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}],
    tools=[LOOK], max_output_tokens=20, **GREEDY)
refused("previous_response_id", lambda: client.responses.create(input="Hi", previous_response_id="resp_1", **GREEDY))


class Person(BaseModel):
    name: str
    age: int


ANNA = [{"role": "user", "content": "Anna is 31 years old. Give me name and age as JSON."}]
person = client.chat.completions.parse(messages=ANNA, response_format=Person, max_tokens=200, **GREEDY)
assert person.choices[0].message.parsed == Person(name="Anna", age=31), person
person = client.responses.parse(input=ANNA, text_format=Person, max_output_tokens=200, **GREEDY)
assert person.output_parsed == Person(name="Anna", age=31), person


class Weather(BaseModel):
    city: str


TOOL = openai.pydantic_function_tool(Weather, name="get_weather")
PARIS = [{"role": "user", "content": "What is the weather in Paris?"}]
called = client.chat.completions.create(messages=PARIS, tools=[TOOL], **GREEDY).choices[0]
assert called.finish_reason == "tool_calls", called
(call,) = called.message.tool_calls
assert call.function.name == "get_weather" and Weather.model_validate_json(call.function.arguments).city == "Paris", call
with client.chat.completions.stream(messages=PARIS, tools=[TOOL], **GREEDY) as events:
    streamed = events.get_final_completion().choices[0]
assert streamed.message.tool_calls[0].function.arguments == call.function.arguments, streamed
result = {"role": "tool", "tool_call_id": call.id, "content": "sunny, 21 degrees"}
told = client.chat.completions.create(messages=[*PARIS, called.message, result], tools=[TOOL], **GREEDY)
assert told.choices[0].finish_reason == "stop" and told.choices[0].message.content, told


async def at_once():
    own = openai.AsyncOpenAI(base_url=URL, api_key="none", max_retries=0)
    answers = await asyncio.gather(*(own.chat.completions.create(messages=QUESTION, **GREEDY) for _ in range(8)))
    assert all(answer.choices[0].message.content == text for answer in answers)
    stream = await own.chat.completions.create(messages=QUESTION, stream=True, **GREEDY)
    assert "".join([e.choices[0].delta.content or "" async for e in stream]) == text


asyncio.run(at_once())
print("openai", openai.__version__, "is content")
