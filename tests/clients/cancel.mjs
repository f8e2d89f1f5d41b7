// Changes its mind about a fine-tuning job: pauses, resumes, cancels it. usage: cancel.mjs MODEL TRAINING_FILE
// Where and with which key: OPENAI_BASE_URL and OPENAI_API_KEY, as the SDK reads them. Prints what it met, as JSON.
import { createReadStream } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import OpenAI from "openai";

const [model, path] = process.argv.slice(2);
const client = new OpenAI();

async function waitFor(id, ...statuses) {
  for (;;) {
    const job = await client.fineTuning.jobs.retrieve(id);
    if (statuses.includes(job.status)) return job;
    if (["succeeded", "failed", "cancelled"].includes(job.status)) {
      throw new Error(`the job ${job.status}: ${JSON.stringify(job.error)}`);
    }
    await sleep(100);
  }
}

const trainingFile = await client.files.create({ file: createReadStream(path), purpose: "fine-tune" });
// The older way to ask for epochs, which programs still use.
const job = await client.fineTuning.jobs.create({
  model,
  training_file: trainingFile.id,
  hyperparameters: { n_epochs: 50 },
  suffix: "given-up",
});
await waitFor(job.id, "running");
const paused = await client.fineTuning.jobs.pause(job.id);
await waitFor(job.id, "queued");
await client.fineTuning.jobs.resume(job.id);
await waitFor(job.id, "running");
const cancelled = await client.fineTuning.jobs.cancel(job.id);
const over = await waitFor(job.id, "cancelled");

const caught = {};
for (const [name, call] of Object.entries({
  "no such file": () => client.fineTuning.jobs.create({ model, training_file: "file-nobody" }),
  "no such model": () => client.fineTuning.jobs.create({ model: "nobody/here", training_file: trainingFile.id }),
})) {
  try {
    await call();
    caught[name] = "nothing";
  } catch (error) {
    caught[name] = error.constructor.name;
  }
}

const events = [];
for await (const event of client.fineTuning.jobs.listEvents(job.id)) events.push(event.message);
console.log(
  JSON.stringify({
    epochs: over.hyperparameters.n_epochs,
    statuses: [paused.status, cancelled.status, over.status],
    "no model": over.fine_tuned_model === null,
    events,
    caught,
  }),
);
