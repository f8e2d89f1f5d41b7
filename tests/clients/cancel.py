"""Changes its mind about a fine-tuning job: pauses it, resumes it, cancels it. usage: cancel.py MODEL TRAINING_FILE

Where and with which key: OPENAI_BASE_URL and OPENAI_API_KEY, as the SDK reads them. Prints what it met, as JSON.
"""

import json
import sys
import time

import openai

model, path = sys.argv[1:]
client = openai.OpenAI()


def wait_for(job_id, *statuses):
    """The job, once its status is one of these."""
    while (job := client.fine_tuning.jobs.retrieve(job_id)).status not in statuses:
        if job.status in ("succeeded", "failed", "cancelled"):
            sys.exit(f"the job {job.status}: {job.error}")
        time.sleep(0.1)
    return job


with open(path, "rb") as stream:
    training_file = client.files.create(file=stream, purpose="fine-tune")
# The older way to ask for epochs, which programs still use.
job = client.fine_tuning.jobs.create(
    model=model, training_file=training_file.id, hyperparameters={"n_epochs": 50}, suffix="given-up"
)
wait_for(job.id, "running")
paused = client.fine_tuning.jobs.pause(job.id)
wait_for(job.id, "queued")
resumed = client.fine_tuning.jobs.resume(job.id)
wait_for(job.id, "running")
cancelled = client.fine_tuning.jobs.cancel(job.id)
over = wait_for(job.id, "cancelled")

caught = {}
for name, call in {
    "no such file": lambda: client.fine_tuning.jobs.create(model=model, training_file="file-nobody"),
    "no such model": lambda: client.fine_tuning.jobs.create(model="nobody/here", training_file=training_file.id),
}.items():
    try:
        call()
        caught[name] = "nothing"
    except openai.APIStatusError as error:
        caught[name] = type(error).__name__

print(
    json.dumps(
        {
            "epochs": over.hyperparameters.n_epochs,
            "statuses": [paused.status, cancelled.status, over.status],
            "no model": over.fine_tuned_model is None,
            "events": [event.message for event in client.fine_tuning.jobs.list_events(job.id)],
            "caught": caught,
        }
    )
)
