// Tools, structured outputs, embeddings and responses. usage: tools.mjs MODEL
// Where and with which key: OPENAI_BASE_URL and OPENAI_API_KEY, as the SDK reads them. Prints what it met, as JSON.
import OpenAI from "openai";

const model = process.argv[2];
const client = new OpenAI();
const schema = {
  type: "object",
  properties: { city: { type: "string" } },
  required: ["city"],
  additionalProperties: false,
};
const tools = [
  { type: "function", function: { name: "weather", description: "The weather in a city.", parameters: schema, strict: true } },
];
const ticketSchema = {
  type: "object",
  properties: {
    topic: { type: "string", enum: ["delivery", "money"] },
    urgent: { type: "boolean" },
    summary: { type: "string" },
  },
  required: ["topic", "urgent", "summary"],
  additionalProperties: false,
};
const ask = (content) => [{ role: "user", content }];

const messages = ask("What is the weather in Oslo?");
const asking = await client.chat.completions.create({ model, messages, tools });
const call = asking.choices[0].message.tool_calls[0];
messages.push(asking.choices[0].message, { role: "tool", tool_call_id: call.id, content: "rain, 4 degrees" });
const answer = await client.chat.completions.create({ model, messages, tools });

const stream = client.chat.completions.stream({ model, messages: messages.slice(0, 1), tools });
let pieces = 0;
stream.on("tool_calls.function.arguments.delta", () => pieces++);
const streamed = (await stream.finalChatCompletion()).choices[0].message.tool_calls[0].function;

const ticket = await client.chat.completions.parse({
  model,
  messages: ask("my parcel is late"),
  response_format: { type: "json_schema", json_schema: { name: "Ticket", schema: ticketSchema, strict: true } },
});
const vectors = await client.embeddings.create({ model, input: ["one", "three"] });
const response = await client.responses.create({ model, input: "hello there" });
const deltas = [];
const responding = client.responses.stream({ model, input: "hello again" });
for await (const event of responding) if (event.type === "response.output_text.delta") deltas.push(event.delta);
const final = await responding.finalResponse();

const whole = await Promise.all(
  [0, 1, 2].map((number) => client.chat.completions.create({ model, messages: ask(`number ${number}`) })),
);
let last = "";
for await (const chunk of await client.chat.completions.create({ model, messages: ask("piece by piece"), stream: true }))
  last += chunk.choices[0]?.delta?.content ?? "";

console.log(
  JSON.stringify({
    called: [call.function.name, JSON.parse(call.function.arguments), asking.choices[0].finish_reason],
    answer: answer.choices[0].message.content,
    "streamed call": [streamed.name, JSON.parse(streamed.arguments), pieces > 1],
    parsed: ticket.choices[0].message.parsed ?? JSON.parse(ticket.choices[0].message.content),
    vectors: vectors.data.map((one) => one.embedding),
    response: response.output_text,
    "streamed response": [deltas.join(""), final.output_text, final.usage.total_tokens],
    "at once": whole.map((one) => one.choices[0].message.content),
    "async stream": last,
  }),
);
