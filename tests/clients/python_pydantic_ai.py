"""pydantic-ai against a running cllm (CLLM_URL): its default `openai:` (responses), chat and Anthropic's API; a tool, a typed output."""

import importlib.metadata
import os

from pydantic import BaseModel
from pydantic_ai import Agent

# What `openai:` and `anthropic:` read.
os.environ |= {
    "OPENAI_BASE_URL": os.environ["CLLM_URL"] + "/v1",
    "OPENAI_API_KEY": "none",
    "ANTHROPIC_BASE_URL": os.environ["CLLM_URL"],
    "ANTHROPIC_API_KEY": "none",
}
GREEDY = {"temperature": 0, "max_tokens": 200}


class Person(BaseModel):
    name: str
    age: int


for model in ("openai:cllm", "openai-chat:cllm", "openai-responses:cllm", "anthropic:cllm"):
    plain = Agent(model, instructions="Be brief.", model_settings=GREEDY)
    whole = plain.run_sync("How do I change the port?")
    assert "port" in whole.output, (model, whole)

    asked = []
    able = Agent(model, model_settings=GREEDY)

    @able.tool_plain
    def get_weather(city: str) -> str:
        """Weather of a city"""
        asked.append(city)
        return f"sunny in {city}"

    told = able.run_sync("What is the weather in Paris?")
    assert asked == ["Paris"] and told.output, (model, asked, told)

    typed = Agent(model, output_type=Person, model_settings=GREEDY)
    person = typed.run_sync("Anna is 31 years old. Give me name and age as JSON.").output
    assert isinstance(person, Person), (model, person)

    with plain.run_stream_sync("How do I change the port?") as stream:
        text = "".join(stream.stream_text(delta=True, debounce_by=None))
    assert text == whole.output, (model, text)
print("pydantic-ai", importlib.metadata.version("pydantic-ai-slim"), "is content")
