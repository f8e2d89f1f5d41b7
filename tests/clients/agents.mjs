// Vercel's ai with openai-compatible, and the openai package's runTools. usage: agents.mjs MODEL MODEL_WITH_TOOLS
// Where and with which key: OPENAI_BASE_URL and OPENAI_API_KEY. Prints what it met, as JSON.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, Output, stepCountIs, streamText, tool } from "ai";
import OpenAI from "openai";
import { z } from "zod";

const [name, caller] = process.argv.slice(2);
const prompt = "where is my order 73194628?";
const provider = createOpenAICompatible({
  name: "parley",
  baseURL: process.env.OPENAI_BASE_URL,
  apiKey: process.env.OPENAI_API_KEY,
  supportsStructuredOutputs: true,
  includeUsage: true,
});
const model = provider(name);
const order = z.object({ number: z.string().regex(/^[0-9]{8}$/) });
const settings = { model, prompt, temperature: 0, maxOutputTokens: 200, maxRetries: 0 };

const answer = await generateText(settings);
let streamed = "";
const streaming = streamText(settings);
for await (const piece of streaming.textStream) streamed += piece;
const usage = await streaming.usage;
const shape = z.object({ topic: z.enum(["delivery", "money"]), urgent: z.boolean() });
const { output: object } = await generateText({ ...settings, output: Output.object({ schema: shape }) });
const find = tool({ description: "Where an order is.", inputSchema: order, execute: async ({ number }) => `${number} is here` });
const called = await generateText({ ...settings, tools: { find_order: find }, toolChoice: "required" });
const free = await generateText({ ...settings, tools: { find_order: find } });

const client = new OpenAI();
const asked = [];
const parameters = {
  type: "object",
  properties: { number: { type: "string", pattern: "^[0-9]{8}$" } },
  required: ["number"],
  additionalProperties: false,
};
const runner = client.chat.completions.runTools({
  model: name,
  temperature: 0,
  max_tokens: 200,
  messages: [{ role: "user", content: prompt }],
  tool_choice: { type: "function", function: { name: "find_order" } },
  tools: [
    {
      type: "function",
      function: {
        name: "find_order",
        description: "Where an order is.",
        parameters,
        parse: JSON.parse,
        function: ({ number }) => {
          asked.push(number);
          return `Order ${number} was shipped yesterday.`;
        },
      },
    },
  ],
});
const result = await runner.finalFunctionToolCallResult();

// As in the introductions of both, with a model that calls functions when it wants to.
const weather = tool({
  description: "Get the weather in a location",
  inputSchema: z.object({ location: z.string().describe("The location to get the weather for") }),
  execute: async ({ location }) => ({ location, temperature: 72 }),
});
const find_order_status = tool({ description: "Get the status of an order", inputSchema: z.object({ orderId: z.string() }) });
const steps = {
  model: provider(caller),
  tools: { weather, find_order_status },
  stopWhen: stepCountIs(5),
  temperature: 0,
  prompt: "What is the weather in San Francisco?",
};
const generated = await generateText(steps);
const parts = [];
for await (const part of streamText(steps).fullStream) {
  if (part.type === "tool-call") parts.push([part.toolName, part.input]);
  if (part.type === "text-delta") parts.push(part.text);
}
const user = z.object({ name: z.string(), age: z.number().int() });
const { output: extracted } = await generateText({
  model: provider(caller),
  temperature: 0,
  output: Output.object({ schema: user }),
  prompt: "John is 25 years old",
});

const calls = [];
function getOrderStatus({ order_id }) {
  calls.push(order_id);
  return `Order ${order_id} was shipped yesterday.`;
}
const properties = { order_id: { type: "string", description: "The order number." } };
const functions = [
  {
    type: "function",
    function: {
      function: getOrderStatus,
      description: "Get the status of an order.",
      parse: JSON.parse,
      parameters: { type: "object", properties, required: ["order_id"] },
    },
  },
];
const request = { model: caller, temperature: 0, messages: [{ role: "user", content: prompt }], tools: functions };
const final = await client.chat.completions.runTools(request).finalContent();
const finalStreamed = await client.chat.completions.runTools({ ...request, stream: true }).finalContent();

console.log(
  JSON.stringify({
    generated: [generated.steps.length, generated.steps[0].toolCalls.map((call) => call.input), generated.text],
    parts: [parts[0], parts.slice(1).join("")],
    extracted,
    "runTools calls": calls,
    final,
    finalStreamed,
    answer: answer.text,
    streamed,
    tokens: usage.totalTokens,
    object,
    called: called.toolCalls.map((call) => [call.toolName, call.input]),
    "tool's result": called.toolResults.map((one) => one.output),
    "free to call": free.text,
    "runTools asked": asked,
    "runTools result": result,
  }),
);
