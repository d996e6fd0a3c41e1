"""Anthropic's own Python client against a running server (CLLM_URL): whole, streamed, tools, counts, errors."""

import os

import anthropic

client = anthropic.Anthropic(base_url=os.environ["CLLM_URL"], api_key="any", max_retries=0)
QUESTION = [{"role": "user", "content": "How do I change the port?"}]
WEATHER = [{
    "name": "get_weather",
    "description": "Weather of a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}]
asked = {"model": "any", "max_tokens": 60, "extra_body": {"temperature": 0}}

whole = client.messages.create(messages=QUESTION, system="Be brief.", **asked)
assert whole.role == "assistant" and whole.stop_reason == "end_turn", whole
assert whole.content[0].type == "text" and "port" in whole.content[0].text, whole

with client.messages.stream(messages=QUESTION, system="Be brief.", **asked) as stream:
    text = "".join(stream.text_stream)
    final = stream.get_final_message()
assert text == whole.content[0].text == final.content[0].text, (text, whole)
assert final.stop_reason == "end_turn" and final.usage.output_tokens == whole.usage.output_tokens, final

counted = client.messages.count_tokens(model="any", messages=QUESTION, system="Be brief.")
assert counted.input_tokens == whole.usage.input_tokens + whole.usage.cache_read_input_tokens, (counted, whole)

weather = [{"role": "user", "content": "What is the weather in Paris?"}]
with client.messages.stream(messages=weather, tools=WEATHER, tool_choice={"type": "any"}, **asked) as stream:
    called = stream.get_final_message()
call = next(block for block in called.content if block.type == "tool_use")
assert (called.stop_reason, call.name, call.input) == ("tool_use", "get_weather", {"city": "Paris"}), called
result = {"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}
turns = [*weather, {"role": "assistant", "content": called.content}, {"role": "user", "content": [result]}]
after = client.messages.create(messages=turns, tools=WEATHER, **asked)
assert after.stop_reason in ("end_turn", "tool_use", "max_tokens") and after.content, after

try:
    client.messages.create(messages=[], **asked)
except anthropic.BadRequestError as error:
    assert "messages" in str(error), error
else:
    raise AssertionError("no messages, no error")
print("python anthropic", anthropic.__version__, "ok")
