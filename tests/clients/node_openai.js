// Node's openai against a running cllm: CLLM_URL names it.
import assert from "node:assert/strict";
import OpenAI from "openai";
import { VERSION } from "openai/version";

const client = new OpenAI({ baseURL: `${process.env.CLLM_URL}/v1`, apiKey: "none", maxRetries: 0 });
const GREEDY = { model: "cllm", temperature: 0 };
const user = (content) => [{ role: "user", content }];
const QUESTION = user("How do I change the port?");
const chat = (body) => client.chat.completions.create({ ...GREEDY, ...body });

const models = [];
for await (const model of client.models.list()) models.push(model.id);
assert.equal((await client.models.retrieve(models[0])).id, models[0]);

const whole = await chat({ messages: QUESTION });
const text = whole.choices[0].message.content;
assert.match(text, /port/);
assert.equal(whole.choices[0].finish_reason, "stop");

let streamed = "";
let usage;
for await (const event of await chat({ messages: QUESTION, stream: true, stream_options: { include_usage: true } })) {
  streamed += event.choices[0]?.delta.content ?? "";
  usage = event.usage ?? usage;
}
assert.equal(streamed, text);
assert.equal(usage.completion_tokens, whole.usage.completion_tokens);

const several = await chat({ messages: QUESTION, n: 2, logprobs: true, top_logprobs: 3, max_completion_tokens: 5 });
assert.equal(several.choices[1].logprobs.content[0].top_logprobs.length, 3);

const { data, response } = await client.completions
  .create({ ...GREEDY, prompt: "Once upon a time", max_tokens: 4, logprobs: 1 }, { headers: { "X-Request-Id": "mine-2" } })
  .withResponse();
assert.equal(data.choices[0].logprobs.tokens.length, 4);
assert.equal(response.headers.get("x-request-id"), "mine-2");

const reply = await client.responses.create({ ...GREEDY, input: "How do I change the port?" });
assert.match(reply.output_text, /port/);
const told = [];
for await (const event of await client.responses.create({ ...GREEDY, input: "How do I change the port?", stream: true })) {
  told.push(event);
}
assert.deepEqual(told.map((event) => event.sequence_number), told.map((_, i) => i));
assert.equal(told.at(-1).type, "response.completed");
assert.equal(told.at(-1).response.output[0].content[0].text, reply.output_text);

const schema = {
  type: "object",
  properties: { name: { type: "string" }, age: { type: "integer" } },
  required: ["name", "age"],
  additionalProperties: false,
};
const person = await client.chat.completions.parse({
  ...GREEDY,
  messages: user("Anna is 31 years old. Give me name and age as JSON."),
  response_format: { type: "json_schema", json_schema: { name: "person", strict: true, schema } },
  max_tokens: 200,
});
assert.deepEqual(JSON.parse(person.choices[0].message.content), { name: "Anna", age: 31 });

// The library runs the function that the model asks for, and hands its result back.
const asked = [];
const runner = client.chat.completions.runTools({
  ...GREEDY,
  stream: true,
  messages: user("What is the weather in Paris?"),
  tools: [{
    type: "function",
    function: {
      name: "get_weather",
      description: "Weather of a city",
      parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
      parse: JSON.parse,
      function: (city) => (asked.push(city), "sunny, 21 degrees"),
    },
  }],
});
assert.ok((await runner.finalContent()).length > 0);
assert.deepEqual(asked, [{ city: "Paris" }]);

// Leaving a stream ends it.
const endless = await chat({ messages: QUESTION, stream: true, ignore_eos: true });
for await (const _ of endless) break;

await assert.rejects(chat({ messages: QUESTION, n: 99 }), (error) => {
  assert.ok(error instanceof OpenAI.BadRequestError);
  assert.equal(error.param, "n");
  assert.equal(error.code, "invalid_field");
  assert.ok(error.requestID);
  return true;
});
console.log("node openai", VERSION, "is content");
