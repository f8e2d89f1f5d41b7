"""Sorts tickets with a batch: uploads the requests, waits, reads the results and the errors, and cancels another one.

usage: batches.py MODEL

Where and with which key: OPENAI_BASE_URL and OPENAI_API_KEY, as the SDK reads them. Prints what it met, as JSON.
"""

import json
import sys
import time

import openai
from openai.types import Batch, FileObject

(model,) = sys.argv[1:]
client = openai.OpenAI()

TICKETS = ["Where is my parcel?", "I want my money back.", "refuse this one", "Do you ship to Norway?"]


def upload(tickets: list[str]) -> FileObject:
    """A file with one request for each ticket."""
    lines = [
        {
            "custom_id": f"ticket-{number}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {
                "model": model,
                "messages": [
                    {"role": "system", "content": "Name the topic in one word."},
                    {"role": "user", "content": ticket},
                ],
                "max_tokens": 20,
            },
        }
        for number, ticket in enumerate(tickets)
    ]
    content = "\n".join(json.dumps(line) for line in lines).encode()
    return client.files.create(file=("tickets.jsonl", content), purpose="batch")


def create(file: FileObject) -> Batch:
    """A batch of a file's requests."""
    return client.batches.create(
        input_file_id=file.id,
        endpoint="/v1/chat/completions",
        completion_window="24h",
        metadata={"description": "nightly sorting"},
    )


batch = create(upload(TICKETS))
created = batch.status
while batch.status in ("validating", "in_progress", "finalizing"):
    time.sleep(0.1)
    batch = client.batches.retrieve(batch.id)

results = {}
for line in client.files.content(batch.output_file_id).text.splitlines():
    result = json.loads(line)
    results[result["custom_id"]] = result["response"]["body"]["choices"][0]["message"]["content"]
errors = [json.loads(line) for line in client.files.content(batch.error_file_id).text.splitlines()]

second = client.batches.cancel(create(upload(TICKETS)).id)
while second.status not in ("cancelled", "completed"):
    time.sleep(0.1)
    second = client.batches.retrieve(second.id)
try:
    client.batches.cancel(batch.id)
    again = "cancelled"
except openai.ConflictError:
    again = "it has ended"

broken = create(client.files.create(file=("broken.jsonl", b"{\n"), purpose="batch"))
while broken.status == "validating":
    time.sleep(0.1)
    broken = client.batches.retrieve(broken.id)

print(
    json.dumps(
        {
            "created": created,
            "status": batch.status,
            "counts": {name: getattr(batch.request_counts, name) for name in ("total", "completed", "failed")},
            "results": results,
            "errors": [[error["custom_id"], error["response"]["status_code"]] for error in errors],
            "metadata": batch.metadata,
            "cancelled": second.status in ("cancelled", "completed"),
            "cancelled again": again,
            "broken": [[error.code, error.line] for error in broken.errors.data],
            "listed": [each.id in (batch.id, second.id, broken.id) for each in client.batches.list(limit=2)],
        }
    )
)
