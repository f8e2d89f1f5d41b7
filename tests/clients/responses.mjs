// Stored responses: a conversation by previous_response_id, as a program for OpenAI has it. usage: responses.mjs MODEL
// Where and with which key: OPENAI_BASE_URL and OPENAI_API_KEY, as the SDK reads them. Prints what it met, as JSON.
import OpenAI from "openai";

const model = process.argv[2];
const client = new OpenAI();
const parameters = {
  type: "object",
  properties: { city: { type: "string" } },
  required: ["city"],
  additionalProperties: false,
};
const tools = [{ type: "function", name: "weather", parameters, strict: true }];

const first = await client.responses.create({ model, input: "hello there" });
const second = await client.responses.create({ model, input: "and again", previous_response_id: first.id });
const kept = await client.responses.retrieve(second.id);
const items = [];
for await (const item of client.responses.inputItems.list(second.id, { order: "asc", limit: 2 }))
  items.push(item.content[0].text);

// A loop that runs a tool, with only the new items in each request.
let response = await client.responses.stream({ model, input: "Is it wet in Oslo?", tools }).finalResponse();
let steps = 0;
for (let calls; (calls = response.output.filter((item) => item.type === "function_call")).length; steps++) {
  const input = calls.map((call) => ({ type: "function_call_output", call_id: call.call_id, output: "rain" }));
  response = await client.responses.stream({ model, input, tools, previous_response_id: response.id }).finalResponse();
}

await client.responses.delete(first.id);
let missing = null;
try {
  await client.responses.retrieve(first.id);
} catch (error) {
  missing = error instanceof OpenAI.NotFoundError && error.message.endsWith(`Response with id '${first.id}' not found.`);
}

console.log(
  JSON.stringify({
    continued: [second.previous_response_id === first.id, second.output_text, second.usage.input_tokens],
    kept: [kept.id === second.id, kept.output_text, kept.previous_response_id === first.id],
    items,
    loop: [steps, response.output_text, response.usage.input_tokens],
    missing,
  }),
);
