"""Fine-tunes a model, chats with it before and after, and asks gpt-4o which answer is better.

usage: fine_tune.py MODEL TRAINING_FILE QUESTION

Where and with which key: OPENAI_BASE_URL and OPENAI_API_KEY, as the SDK reads them. Prints what it met, as JSON.
"""

import json
import sys
import time

import openai

model, path, question = sys.argv[1:]
client = openai.OpenAI()

with open(path, "rb") as stream:
    training_file = client.files.create(file=stream, purpose="fine-tune")

job = client.fine_tuning.jobs.create(
    model=model,
    training_file=training_file.id,
    suffix="word-of-the-day",
    seed=7,
    metadata={"team": "support"},
    method={
        "type": "supervised",
        "supervised": {"hyperparameters": {"n_epochs": 6, "batch_size": 16, "learning_rate_multiplier": "auto"}},
    },
)
created = job.status

seen = []
while job.status not in ("succeeded", "failed", "cancelled"):
    if job.status not in seen:
        seen.append(job.status)
    time.sleep(0.2)
    job = client.fine_tuning.jobs.retrieve(job.id)
if job.status != "succeeded":
    sys.exit(f"the job {job.status}: {job.error}")

events = list(client.fine_tuning.jobs.list_events(job.id, limit=3))
metrics = [event.data for event in events if event.type == "metrics"]
checkpoints = list(client.fine_tuning.jobs.checkpoints.list(job.id, limit=1))
mine = [one.id for one in client.fine_tuning.jobs.list(metadata={"team": "support"})]
results = client.files.content(job.result_files[0]).text

messages = [{"role": "user", "content": question}]
answer = client.chat.completions.create(model=job.fine_tuned_model, messages=messages, temperature=0, max_tokens=40)
stream = client.chat.completions.create(
    model=job.fine_tuned_model, messages=messages, temperature=0, max_tokens=40, stream=True
)
pieces = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
early = client.chat.completions.create(
    model=checkpoints[-1].fine_tuned_model_checkpoint, messages=messages, temperature=0, max_tokens=40
)
before = client.chat.completions.create(model=model, messages=messages, temperature=0, max_tokens=40)
answers = [one.choices[0].message.content for one in (before, answer)]
asked = f"Which answer to {question!r} is better, A or B?\nA: {answers[0]}\nB: {answers[1]}"
verdict = client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": asked}], max_tokens=40)

print(
    json.dumps(
        {
            "version": openai.__version__,
            "created": created,
            "seen": seen,
            "model": job.fine_tuned_model,
            "trained tokens": job.trained_tokens,
            "epochs": job.hyperparameters.n_epochs,
            "seed": job.seed,
            "events": [event.message for event in events],
            "metrics": metrics,
            "checkpoints": [[one.step_number, one.metrics.train_loss] for one in checkpoints],
            "mine": job.id in mine,
            "results": results.splitlines()[0],
            "answer": answer.choices[0].message.content,
            "streamed": "".join(pieces),
            "answer before": before.choices[0].message.content,
            "verdict": verdict.choices[0].message.content,
            "checkpoint's answer": early.choices[0].message.content,
            "retrieved": client.models.retrieve(job.fine_tuned_model).id,
            "deleted": client.models.delete(job.fine_tuned_model).deleted,
        }
    )
)
