// Sorts tickets with a batch: uploads the requests, waits, reads the results and the errors, and cancels another one.
// usage: batches.mjs MODEL. Where and with which key: OPENAI_BASE_URL and OPENAI_API_KEY, as the SDK reads them.
// Prints what it met, as JSON.
import OpenAI, { toFile } from "openai";

const [model] = process.argv.slice(2);
const client = new OpenAI();

const tickets = ["Where is my parcel?", "I want my money back.", "refuse this one", "Do you ship to Norway?"];
const url = "/v1/chat/completions";

async function upload(texts) {
  const lines = texts.map((text, number) => ({
    custom_id: `ticket-${number}`,
    method: "POST",
    url,
    body: {
      model,
      messages: [
        { role: "system", content: "Name the topic in one word." },
        { role: "user", content: text },
      ],
      max_tokens: 20,
    },
  }));
  const content = lines.map((line) => JSON.stringify(line)).join("\n");
  return client.files.create({ file: await toFile(Buffer.from(content), "tickets.jsonl"), purpose: "batch" });
}

const create = (file) =>
  client.batches.create({
    input_file_id: file.id,
    endpoint: url,
    completion_window: "24h",
    metadata: { description: "nightly sorting" },
  });

async function until(batch, waiting) {
  while (waiting(batch.status)) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    batch = await client.batches.retrieve(batch.id);
  }
  return batch;
}

async function lines(fileId) {
  const text = await (await client.files.content(fileId)).text();
  return text.trim().split("\n").map((line) => JSON.parse(line));
}

let batch = await create(await upload(tickets));
const created = batch.status;
batch = await until(batch, (status) => ["validating", "in_progress", "finalizing"].includes(status));
const results = {};
for (const line of await lines(batch.output_file_id)) {
  results[line.custom_id] = line.response.body.choices[0].message.content;
}
const errors = await lines(batch.error_file_id);

let second = await client.batches.cancel((await create(await upload(tickets))).id);
second = await until(second, (status) => !["cancelled", "completed"].includes(status));
let again = "cancelled";
try {
  await client.batches.cancel(batch.id);
} catch (error) {
  if (!(error instanceof OpenAI.ConflictError)) throw error;
  again = "it has ended";
}

const file = await client.files.create({ file: await toFile(Buffer.from("{\n"), "broken.jsonl"), purpose: "batch" });
const broken = await until(await create(file), (status) => status === "validating");

const listed = [];
for await (const each of client.batches.list({ limit: 2 })) {
  listed.push([batch.id, second.id, broken.id].includes(each.id));
}

console.log(
  JSON.stringify({
    created,
    status: batch.status,
    counts: batch.request_counts,
    results,
    errors: errors.map((error) => [error.custom_id, error.response.status_code]),
    metadata: batch.metadata,
    cancelled: ["cancelled", "completed"].includes(second.status),
    "cancelled again": again,
    broken: broken.errors.data.map((error) => [error.code, error.line]),
    listed,
  }),
);
