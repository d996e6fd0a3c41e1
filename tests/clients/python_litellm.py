"""litellm against a running cllm (CLLM_URL): chat whole, streamed and async, tools, a schema, completions, errors, responses, and
its bridge from Anthropic's API to OpenAI's."""

import asyncio
import importlib.metadata
import json
import os

# Its table of prices comes with it; the newest one is on the network.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import litellm

litellm.telemetry = False
litellm.suppress_debug_info = True
URL = os.environ["CLLM_URL"]
there = {"model": "openai/cllm", "api_base": URL + "/v1", "api_key": "none", "temperature": 0, "max_retries": 0}
QUESTION = [{"role": "user", "content": "How do I change the port?"}]
WEATHER = [{"type": "function", "function": {
    "name": "get_weather",
    "description": "Weather of a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}}]

whole = litellm.completion(messages=QUESTION, **there)
text = whole.choices[0].message.content
assert "port" in text and whole.choices[0].finish_reason == "stop", whole
events = list(litellm.completion(messages=QUESTION, stream=True, stream_options={"include_usage": True}, **there))
built = litellm.stream_chunk_builder(events, messages=QUESTION)
assert built.choices[0].message.content == text, built
assert built.usage.completion_tokens == whole.usage.completion_tokens, built

PARIS = [{"role": "user", "content": "What is the weather in Paris?"}]
called = litellm.completion(messages=PARIS, tools=WEATHER, **there).choices[0]
(call,) = called.message.tool_calls
assert (called.finish_reason, call.function.name) == ("tool_calls", "get_weather"), called
assert json.loads(call.function.arguments) == {"city": "Paris"}, called

schema = {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
          "required": ["name", "age"], "additionalProperties": False}
person = litellm.completion(
    messages=[{"role": "user", "content": "Anna is 31 years old. Give me name and age as JSON."}], max_tokens=200,
    response_format={"type": "json_schema", "json_schema": {"name": "person", "schema": schema}}, **there)
assert json.loads(person.choices[0].message.content) == {"name": "Anna", "age": 31}, person

completion = litellm.text_completion(**{**there, "model": "text-completion-openai/cllm"},
                                     prompt="Once upon a time", max_tokens=8)
assert completion.choices[0].text and completion.usage.completion_tokens == 8, completion

# The other API that it speaks.
told = litellm.completion(messages=QUESTION, max_tokens=60, model="anthropic/cllm", api_base=URL, api_key="none",
                          temperature=0)
assert told.choices[0].message.content == text, told


# Anthropic's API in front, OpenAI's behind.
async def bridged():
    for model in ("openai/cllm", "hosted_vllm/cllm"):
        asked = {"model": model, "api_base": URL + "/v1", "api_key": "none", "max_tokens": 60, "temperature": 0}
        whole = await litellm.anthropic.messages.acreate(messages=QUESTION, **asked)
        assert "port" in whole["content"][0]["text"] and whole["stop_reason"] == "end_turn", (model, whole)
        events = [event async for event in await litellm.anthropic.messages.acreate(messages=QUESTION, stream=True, **asked)]
        assert b"message_stop" in (events[-1] if isinstance(events[-1], bytes) else json.dumps(events[-1]).encode()), events
        tool = {"name": "get_weather", "description": "Weather of a city", "input_schema": WEATHER[0]["function"]["parameters"]}
        called = await litellm.anthropic.messages.acreate(messages=PARIS, tools=[tool], **asked)
        (use,) = [block for block in called["content"] if block["type"] == "tool_use"]
        assert (use["name"], use["input"]) == ("get_weather", {"city": "Paris"}), (model, called)


asyncio.run(bridged())
response = litellm.responses(input="How do I change the port?", model="openai/cllm", api_base=URL + "/v1", api_key="none",
                             temperature=0)
assert "port" in response.output[0].content[0].text and response.status == "completed", response


async def at_once():
    answers = await asyncio.gather(*(litellm.acompletion(messages=QUESTION, **there) for _ in range(4)))
    assert all(answer.choices[0].message.content == text for answer in answers), answers


asyncio.run(at_once())
try:
    litellm.completion(messages=QUESTION, n=99, **there)
except litellm.BadRequestError as error:
    assert "n: must be" in str(error), error
else:
    raise AssertionError("n was accepted")
print("litellm", importlib.metadata.version("litellm"), "is content")
