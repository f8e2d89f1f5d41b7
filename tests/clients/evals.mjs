// Compares two prompts on push notifications: an eval, a run for each prompt, and what they got wrong.
// usage: evals.mjs MODEL JUDGE. Where and with which key: OPENAI_BASE_URL and OPENAI_API_KEY, as the SDK reads them.
// Prints what it met, as JSON.
import OpenAI, { toFile } from "openai";

const [model, judge] = process.argv.slice(2);
const client = new OpenAI();

const notifications = ["Alice: lunch at one?", "Bank: your card was used", "Carol: the train is late", "refuse this one"];
const prompts = { short: "Summarise in five words.", kind: "Summarise kindly." };
const judgePrompt = `Is this a good summary of the notifications?
Notifications: {{item.notifications}}
Summary: {{sample.output_text}}`;

const lines = notifications.map((text) => JSON.stringify({ item: { notifications: text, sender: text.split(":")[0] } }));
const data = await client.files.create({
  file: await toFile(Buffer.from(lines.join("\n")), "notifications.jsonl"),
  purpose: "evals",
});

const summaries = await client.evals.create({
  name: "Push notification summaries",
  metadata: { description: "Compares two prompts." },
  data_source_config: {
    type: "custom",
    item_schema: {
      type: "object",
      properties: { notifications: { type: "string" }, sender: { type: "string" } },
      required: ["notifications"],
    },
    include_sample_schema: true,
  },
  testing_criteria: [
    {
      name: "good summary",
      type: "label_model",
      model: judge,
      input: [
        { role: "developer", content: "You label summaries." },
        { role: "user", content: judgePrompt },
      ],
      labels: ["correct", "incorrect"],
      passing_labels: ["correct"],
    },
    {
      name: "names the sender",
      type: "string_check",
      input: "{{sample.output_text}}",
      reference: "{{item.sender}}",
      operation: "like",
    },
  ],
});

let runs = [];
for (const [name, prompt] of Object.entries(prompts)) {
  runs.push(
    await client.evals.runs.create(summaries.id, {
      name,
      metadata: { prompt: name },
      data_source: {
        type: "completions",
        model,
        source: { type: "file_id", id: data.id },
        input_messages: {
          type: "template",
          template: [
            { role: "developer", content: prompt },
            { role: "user", content: "{{item.notifications}}" },
          ],
        },
        sampling_params: { temperature: 0.2, max_completion_tokens: 60 },
      },
    }),
  );
}
const created = runs.map((run) => run.status);

while (runs.some((run) => ["queued", "in_progress"].includes(run.status))) {
  await new Promise((resolve) => setTimeout(resolve, 100));
  runs = await Promise.all(runs.map((run) => client.evals.runs.retrieve(run.id, { eval_id: summaries.id })));
}

const results = [];
for (const run of runs) {
  const items = [];
  for await (const item of client.evals.runs.outputItems.list(run.id, { eval_id: summaries.id, limit: 3 })) items.push(item);
  results.push({
    name: run.name,
    status: run.status,
    counts: run.result_counts,
    criteria: run.per_testing_criteria_results.map((each) => [each.passed, each.failed]),
    outputs: items.filter((item) => item.sample.output.length).map((item) => item.sample.output[0].content),
    errors: items.filter((item) => item.sample.error).map((item) => item.sample.error.message),
    passed: items.map((item) => item.results.map((result) => result.passed)),
  });
}

let cancelled = "cancelled";
try {
  await client.evals.runs.cancel(runs[0].id, { eval_id: summaries.id });
} catch (error) {
  if (!(error instanceof OpenAI.BadRequestError)) throw error;
  cancelled = "it has ended";
}
const updated = await client.evals.update(summaries.id, { name: "Summaries" });
const listed = [];
for await (const each of client.evals.list({ limit: 1, order: "desc" })) listed.push(each.id);
const deleted = await client.evals.delete(summaries.id);

console.log(
  JSON.stringify({
    created,
    results,
    cancelled,
    updated: updated.name,
    listed: listed.includes(summaries.id),
    deleted: [deleted.object, deleted.deleted, deleted.eval_id === summaries.id],
  }),
);
