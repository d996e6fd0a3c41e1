"""Ollama's own Python client against a running server (CLLM_URL): chat, generate, tools, a schema, lists, errors."""

import importlib.metadata
import json
import os

import ollama

client = ollama.Client(host=os.environ["CLLM_URL"])
QUESTION = [{"role": "user", "content": "How do I change the port?"}]
GREEDY = {"temperature": 0, "num_predict": 60, "num_ctx": 4096}

whole = client.chat(model="any", messages=QUESTION, options=GREEDY)
assert "port" in whole.message.content and whole.done and whole.done_reason == "stop", whole
assert whole.eval_count > 0 and whole.prompt_eval_count > 0 and whole.total_duration > 0, whole
lines = list(client.chat(model="any", messages=QUESTION, options=GREEDY, stream=True))
assert "".join(line.message.content for line in lines) == whole.message.content, lines
assert lines[-1].done and lines[-1].eval_count == whole.eval_count and len(lines) > 2, lines[-1]

told = client.generate(model="any", prompt="Once upon a time", raw=True, options={**GREEDY, "num_predict": 8})
assert told.response and told.done_reason == "length" and told.eval_count == 8, told
asked = client.generate(model="any", prompt="How do I change the port?", options=GREEDY, stream=True)
assert "".join(line.response for line in asked) == whole.message.content

WEATHER = {"type": "function", "function": {
    "name": "get_weather",
    "description": "Weather of a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}}
weather = [{"role": "user", "content": "What is the weather in Paris?"}]
called = client.chat(model="any", messages=weather, tools=[WEATHER], options=GREEDY).message
(call,) = called.tool_calls
assert (call.function.name, call.function.arguments) == ("get_weather", {"city": "Paris"}), called
after = [*weather, called, {"role": "tool", "tool_name": "get_weather", "content": "sunny"}]
assert client.chat(model="any", messages=after, tools=[WEATHER], options=GREEDY).done

schema = {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
          "required": ["name", "age"], "additionalProperties": False}
anna = [{"role": "user", "content": "Anna is 31 years old. Give me name and age as JSON."}]
person = client.chat(model="any", messages=anna, format=schema, options={"temperature": 0, "num_predict": 200})
assert json.loads(person.message.content) == {"name": "Anna", "age": 31}, person

(model,) = client.list().models
(loaded,) = client.ps().models
assert model.model == loaded.model and model.size > 0 and model.details.format == "gguf", model
shown = client.show(model.model)
assert "completion" in shown.capabilities and shown.template, shown
assert client.chat(model=model.model, messages=[]).done_reason == "load"
for change in (lambda: client.pull("other"), lambda: client.delete("other")):
    try:
        change()
    except ollama.ResponseError as error:
        assert error.status_code == 501 and "cllm pull" in error.error, error
    else:
        raise AssertionError("no model, no error")
try:
    client.chat(model="any", messages=QUESTION, options={"temperature": -1})
except ollama.ResponseError as error:
    assert error.status_code == 400 and "options.temperature" in error.error, error
else:
    raise AssertionError("a temperature below 0 was accepted")
print("python ollama", importlib.metadata.version("ollama"), "is content")
