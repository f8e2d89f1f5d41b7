// Vercel's ai with openai-compatible, and the openai package's runTools. usage: agents.mjs MODEL
// Where and with which key: OPENAI_BASE_URL and OPENAI_API_KEY. Prints what it met, as JSON.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, isStepCount, Output, streamText, tool } from "ai";
import OpenAI from "openai";
import { z } from "zod";

const name = process.argv[2];
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
const topics = ["cancel", "delivery", "refund", "payment", "account", "other"];
const shape = z.object({ topic: z.enum(topics), number: z.string().nullable(), urgent: z.boolean() });
const { output: object } = await generateText({ ...settings, output: Output.object({ schema: shape }) });
const find = tool({ description: "Where an order is.", inputSchema: order, execute: async ({ number }) => `Order ${number} is here.` });
const called = await generateText({ ...settings, tools: { trackOrder: find }, toolChoice: "required" });
const free = await generateText({ ...settings, tools: { trackOrder: find }, stopWhen: isStepCount(3) });

const client = new OpenAI();
const asked = [];
const parameters = { type: "object", properties: { number: { type: "string" } }, required: ["number"] };
const runner = client.chat.completions.runTools({
  model: name,
  temperature: 0,
  max_tokens: 200,
  messages: [{ role: "user", content: prompt }],
  tools: [
    {
      type: "function",
      function: {
        name: "trackOrder",
        description: "Where an order is.",
        parameters,
        parse: JSON.parse,
        function: ({ number }) => {
          asked.push(number);
          return `Order ${number} arrives on Friday.`;
        },
      },
    },
  ],
});
const result = await runner.finalFunctionToolCallResult();
const told = await runner.finalContent();

console.log(
  JSON.stringify({
    answer: answer.text,
    streamed,
    tokens: usage.totalTokens,
    object,
    called: called.toolCalls.map((call) => [call.toolName, call.input]),
    "tool's result": called.toolResults.map((one) => one.output),
    "free to call": free.text,
    "runTools asked": asked,
    "runTools result": result,
    "runTools answer": told,
  }),
);
