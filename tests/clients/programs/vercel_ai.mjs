// Vercel's ai package through its OpenAI-compatible provider: text, stream, object. Prints what came as JSON.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, jsonSchema, Output, streamText } from "ai";

const edge = createOpenAICompatible({
  name: "edge-sir",
  baseURL: process.env.OPENAI_BASE_URL,
  apiKey: "any",
  supportsStructuredOutputs: true,
  includeUsage: true,
});
const model = edge(process.env.MODEL);
const messages = [{ role: "user", content: "My name is Emil. What is the capital of France?" }];
const terms = { model, maxOutputTokens: 16, temperature: 0, maxRetries: 0 };
const first = await generateText({ ...terms, messages });
messages.push({ role: "assistant", content: first.text }, { role: "user", content: "And of Italy?" });
const result = streamText({ ...terms, messages });
let streamed = "";
for await (const text of result.textStream) streamed += text;
const usage = await result.usage;
const schema = jsonSchema({
  type: "object",
  properties: { name: { type: "string" }, inhabitants: { type: "integer" } },
  required: ["name", "inhabitants"],
  additionalProperties: false,
});
const made = await generateText({
  ...terms,
  maxOutputTokens: 80,
  output: Output.object({ schema }),
  prompt: "Name a city with its inhabitants.",
});
console.log(JSON.stringify({ first: first.text, streamed, usage, object: made.output }));
