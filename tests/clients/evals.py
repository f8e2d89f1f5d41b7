"""Compares two prompts on push notifications: an eval, a run for each prompt, and the items that failed.

usage: evals.py MODEL JUDGE

Where and with which key: OPENAI_BASE_URL and OPENAI_API_KEY, as the SDK reads them. Prints what it met, as JSON.
"""

import json
import sys
import time

import openai

model, judge = sys.argv[1:]
client = openai.OpenAI()

NOTIFICATIONS = ["Alice: lunch at one?", "Bank: your card was used", "Carol: the train is late", "refuse this one"]
PROMPTS = {"short": "Summarise in five words.", "kind": "Summarise kindly."}
JUDGE_PROMPT = """Is this a good summary of the notifications?
Notifications: {{item.notifications}}
Summary: {{sample.output_text}}"""

lines = [json.dumps({"item": {"notifications": text, "sender": text.split(":")[0]}}) for text in NOTIFICATIONS]
data = client.files.create(file=("notifications.jsonl", "\n".join(lines).encode()), purpose="evals")

summaries = client.evals.create(
    name="Push notification summaries",
    metadata={"description": "Compares two prompts."},
    data_source_config={
        "type": "custom",
        "item_schema": {
            "type": "object",
            "properties": {"notifications": {"type": "string"}, "sender": {"type": "string"}},
            "required": ["notifications"],
        },
        "include_sample_schema": True,
    },
    testing_criteria=[
        {
            "name": "good summary",
            "type": "label_model",
            "model": judge,
            "input": [
                {"role": "developer", "content": "You label summaries."},
                {"role": "user", "content": JUDGE_PROMPT},
            ],
            "labels": ["correct", "incorrect"],
            "passing_labels": ["correct"],
        },
        {
            "name": "names the sender",
            "type": "string_check",
            "input": "{{sample.output_text}}",
            "reference": "{{item.sender}}",
            "operation": "like",
        },
    ],
)

runs = []
for name, prompt in PROMPTS.items():
    runs.append(
        client.evals.runs.create(
            summaries.id,
            name=name,
            metadata={"prompt": name},
            data_source={
                "type": "completions",
                "model": model,
                "source": {"type": "file_id", "id": data.id},
                "input_messages": {
                    "type": "template",
                    "template": [
                        {"role": "developer", "content": prompt},
                        {"role": "user", "content": "{{item.notifications}}"},
                    ],
                },
                "sampling_params": {"temperature": 0.2, "max_completion_tokens": 60},
            },
        )
    )
created = [run.status for run in runs]

while any(run.status in ("queued", "in_progress") for run in runs):
    time.sleep(0.1)
    runs = [client.evals.runs.retrieve(run.id, eval_id=summaries.id) for run in runs]

results = []
for run in runs:
    items = list(client.evals.runs.output_items.list(run.id, eval_id=summaries.id, limit=3))
    results.append(
        {
            "name": run.name,
            "status": run.status,
            "counts": run.result_counts.model_dump(),
            "criteria": [[each.passed, each.failed] for each in run.per_testing_criteria_results],
            "outputs": [item.sample.output[0].content for item in items if item.sample.output],
            "errors": [item.sample.error.message for item in items if item.sample.error],
            "passed": [[result.passed for result in item.results] for item in items],
        }
    )

try:
    client.evals.runs.cancel(runs[0].id, eval_id=summaries.id)
    cancelled = "cancelled"
except openai.BadRequestError:
    cancelled = "it has ended"
updated = client.evals.update(summaries.id, name="Summaries")
listed = [each.id for each in client.evals.list(limit=1, order="desc")]
deleted = client.evals.delete(summaries.id)

print(
    json.dumps(
        {
            "created": created,
            "results": results,
            "cancelled": cancelled,
            "updated": updated.name,
            "listed": summaries.id in listed,
            "deleted": [deleted.object, deleted.deleted, deleted.eval_id == summaries.id],
        }
    )
)
