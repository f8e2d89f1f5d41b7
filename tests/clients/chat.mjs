// Chats with a model: whole, as a stream, and with mistakes that the SDK has a class for. usage: chat.mjs MODEL
// Where and with which key: OPENAI_BASE_URL and OPENAI_API_KEY, as the SDK reads them. Prints what it met, as JSON.
import OpenAI, { toFile } from "openai";
import { VERSION } from "openai/version";

const model = process.argv[2];
const client = new OpenAI();
const messages = [{ role: "user", content: "please cancel my order 73194628" }];

const listed = [];
for await (const one of client.models.list()) listed.push(one.id);
const retrieved = await client.models.retrieve(model);

const answer = await client.chat.completions.create({ model, messages, temperature: 0, max_tokens: 60 });

let streamed = "";
let usage = null;
const stream = await client.chat.completions.create({
  model,
  messages,
  temperature: 0,
  max_tokens: 60,
  stream: true,
  stream_options: { include_usage: true },
});
for await (const chunk of stream) {
  streamed += chunk.choices[0]?.delta?.content ?? "";
  usage = chunk.usage?.total_tokens ?? usage;
}

const caught = {};
for (const [name, call] of Object.entries({
  "unknown model": () => client.chat.completions.create({ model: "nobody/here", messages }),
  "unknown model, retrieved": () => client.models.retrieve("nobody/here"),
  "no messages": () => client.chat.completions.create({ model, messages: [] }),
  "unknown file": () => client.files.retrieve("file-nobody"),
  "unknown job": () => client.fineTuning.jobs.retrieve("ftjob-nobody"),
  "unknown purpose": async () =>
    client.files.create({ file: await toFile(Buffer.from("{}"), "a.jsonl"), purpose: "nothing" }),
})) {
  try {
    await call();
    caught[name] = "nothing";
  } catch (error) {
    caught[name] = error.constructor.name;
  }
}

console.log(
  JSON.stringify({
    version: VERSION,
    listed: listed.includes(model),
    retrieved: retrieved.id,
    answer: answer.choices[0].message.content,
    tokens: answer.usage.total_tokens,
    streamed,
    "streamed tokens": usage,
    caught,
  }),
);
