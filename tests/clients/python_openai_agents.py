"""openai-agents against a running cllm (CLLM_URL), by its default API (responses) and by chat: whole, streamed, with a tool."""

import asyncio
import importlib.metadata
import os

from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from openai import AsyncOpenAI

set_tracing_disabled(True)
client = AsyncOpenAI(base_url=os.environ["CLLM_URL"] + "/v1", api_key="none", max_retries=0)
asked = []


@function_tool
def get_weather(city: str) -> str:
    """Weather of a city"""
    asked.append(city)
    return f"sunny in {city}"


async def main():
    for kind in (OpenAIResponsesModel, OpenAIChatCompletionsModel):
        model = kind(model="cllm", openai_client=client)
        greedy = ModelSettings(temperature=0, max_tokens=60)
        plain = Agent(name="plain", instructions="Be brief.", model=model, model_settings=greedy)
        whole = await Runner.run(plain, "How do I change the port?")
        assert "port" in whole.final_output, (kind, whole)
        streamed = Runner.run_streamed(plain, "How do I change the port?")
        kinds = {event.type async for event in streamed.stream_events()}
        assert "raw_response_event" in kinds and streamed.final_output == whole.final_output, (kind, kinds)

        asked.clear()
        must = ModelSettings(temperature=0, max_tokens=60, tool_choice="required")
        able = Agent(name="able", model=model, tools=[get_weather], model_settings=must)
        told = await Runner.run(able, "What is the weather in Paris?", max_turns=4)
        assert asked == ["Paris"] and told.final_output, (kind, asked, told)


asyncio.run(main())
print("openai-agents", importlib.metadata.version("openai-agents"), "is content")
