// The AI SDK against a running cllm: CLLM_URL names it. Its `openai()` speaks responses; `.chat()`, the compatible provider and
// Anthropic's speak the others.
import assert from "node:assert/strict";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { Output, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const baseURL = `${process.env.CLLM_URL}/v1`;
const openai = createOpenAI({ baseURL, apiKey: "none" });
const models = {
  responses: openai("cllm"),
  chat: openai.chat("cllm"),
  compatible: createOpenAICompatible({ name: "cllm", baseURL, includeUsage: true, supportsStructuredOutputs: true })("cllm"),
  anthropic: createAnthropic({ baseURL, apiKey: "none" })("cllm"),
};
const greedy = { temperature: 0, maxOutputTokens: 200, maxRetries: 0 };

for (const [name, model] of Object.entries(models)) {
  const prompt = "How do I change the port?";
  const whole = await generateText({ model, prompt, ...greedy });
  assert.match(whole.text, /port/, name);
  assert.equal(whole.finishReason, "stop", name);
  const streamed = streamText({ model, prompt, ...greedy, onError: ({ error }) => { throw error; } });
  let text = "";
  for await (const piece of streamed.textStream) text += piece;
  assert.equal(text, whole.text, name);
  assert.equal((await streamed.usage).outputTokens, whole.usage.outputTokens, name);

  const asked = [];
  const weather = tool({
    description: "Weather of a city",
    inputSchema: z.object({ city: z.string() }),
    execute: async ({ city }) => { asked.push(city); return `sunny in ${city}`; },
  });
  const told = await generateText({
    model, tools: { get_weather: weather }, stopWhen: stepCountIs(2), prompt: "What is the weather in Paris?", ...greedy,
  });
  assert.deepEqual(asked, ["Paris"], name);
  assert.equal(told.steps.length, 2, name);

  const person = await generateText({
    model, output: Output.object({ schema: z.object({ name: z.string(), age: z.number().int() }) }),
    prompt: "Anna is 31 years old. Give me name and age as JSON.", ...greedy,
  });
  assert.deepEqual(person.output, { name: "Anna", age: 31 }, name);
}
console.log("ai sdk ok");
