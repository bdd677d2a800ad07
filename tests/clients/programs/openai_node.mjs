// The npm package openai: replies whole and streamed, tools, responses. Prints what came as JSON.
import OpenAI from "openai";

const client = new OpenAI({ apiKey: "any", baseURL: process.env.OPENAI_BASE_URL, maxRetries: 0 });
const model = (await client.models.list()).data[0].id;
const messages = [{ role: "user", content: "My name is Dina. What is the capital of France?" }];
const first = await client.chat.completions.create({ model, messages, max_tokens: 16, temperature: 0 });
messages.push(first.choices[0].message, { role: "user", content: "And of Italy?" });
const { data: stream, response } = await client.chat.completions
  .create({ model, messages, max_tokens: 16, temperature: 0, stream: true })
  .withResponse();
let streamed = "";
for await (const chunk of stream) streamed += chunk.choices[0]?.delta?.content ?? "";
const answer = await client.responses.create({ model, input: "Say hello.", max_output_tokens: 8 });
console.log(
  JSON.stringify({
    first: first.choices[0].message.content,
    streamed,
    match: response.headers.get("x-edge-sir-match"),
    answer: answer.output_text,
  }),
);
