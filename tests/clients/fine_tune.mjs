// Fine-tunes a model, chats with it before and after, and asks gpt-4o which answer is better. usage: fine_tune.mjs MODEL TRAINING_FILE QUESTION
// Where and with which key: OPENAI_BASE_URL and OPENAI_API_KEY, as the SDK reads them. Prints what it met, as JSON.
import { createReadStream } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import OpenAI from "openai";
import { VERSION } from "openai/version";

const [model, path, question] = process.argv.slice(2);
const client = new OpenAI();

const trainingFile = await client.files.create({ file: createReadStream(path), purpose: "fine-tune" });

let job = await client.fineTuning.jobs.create({
  model,
  training_file: trainingFile.id,
  suffix: "word-of-the-day",
  seed: 7,
  metadata: { team: "support" },
  method: {
    type: "supervised",
    supervised: { hyperparameters: { n_epochs: 6, batch_size: 16, learning_rate_multiplier: "auto" } },
  },
});
const created = job.status;

const seen = [];
while (!["succeeded", "failed", "cancelled"].includes(job.status)) {
  if (!seen.includes(job.status)) seen.push(job.status);
  await sleep(200);
  job = await client.fineTuning.jobs.retrieve(job.id);
}
if (job.status !== "succeeded") {
  console.error(`the job ${job.status}: ${JSON.stringify(job.error)}`);
  process.exit(1);
}

const events = [];
for await (const event of client.fineTuning.jobs.listEvents(job.id, { limit: 3 })) events.push(event);
const checkpoints = [];
for await (const one of client.fineTuning.jobs.checkpoints.list(job.id, { limit: 1 })) checkpoints.push(one);
const mine = [];
for await (const one of client.fineTuning.jobs.list({ metadata: { team: "support" } })) mine.push(one.id);
const results = await (await client.files.content(job.result_files[0])).text();

const asked = { messages: [{ role: "user", content: question }], temperature: 0, max_tokens: 40 };
const answer = await client.chat.completions.create({ model: job.fine_tuned_model, ...asked });
let streamed = "";
for await (const chunk of await client.chat.completions.create({ model: job.fine_tuned_model, ...asked, stream: true })) {
  streamed += chunk.choices[0]?.delta?.content ?? "";
}
const early = await client.chat.completions.create({ model: checkpoints.at(-1).fine_tuned_model_checkpoint, ...asked });
const before = await client.chat.completions.create({ model, ...asked });
const [first, second] = [before, answer].map((one) => one.choices[0].message.content);
const comparison = `Which answer to '${question}' is better, A or B?\nA: ${first}\nB: ${second}`;
const verdict = await client.chat.completions.create({
  model: "gpt-4o",
  messages: [{ role: "user", content: comparison }],
  max_tokens: 40,
});

console.log(
  JSON.stringify({
    version: VERSION,
    created,
    seen,
    model: job.fine_tuned_model,
    "trained tokens": job.trained_tokens,
    epochs: job.hyperparameters.n_epochs,
    seed: job.seed,
    events: events.map((event) => event.message),
    metrics: events.filter((event) => event.type === "metrics").map((event) => event.data),
    checkpoints: checkpoints.map((one) => [one.step_number, one.metrics.train_loss]),
    mine: mine.includes(job.id),
    results: results.split("\n")[0].trim(),
    answer: answer.choices[0].message.content,
    streamed,
    "answer before": first,
    verdict: verdict.choices[0].message.content,
    "checkpoint's answer": early.choices[0].message.content,
    retrieved: (await client.models.retrieve(job.fine_tuned_model)).id,
    deleted: (await client.models.delete(job.fine_tuned_model)).deleted,
  }),
);
