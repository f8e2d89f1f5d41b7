"""The fine-tuning API: OpenAI's requests in, jobs with events, checkpoints and result files out.

| file | content |
|---|---|
| `requests` | the create request's fields and the errors for invalid ones |
| `creation` | a request becomes a job: its base, its files, repeated requests |
| `lifecycle` | cancel, pause, resume, fail: the status transitions |
| `views` | jobs, events and checkpoints as API objects, in pages |
| `validation` | the check of the files, in the worker, and its stored outcome |
| `training_job`, `child` | the training: in the worker, in its process with wandb, and its wait for memory |
| `events`, `checkpoint_models` | the training's events and checkpoints as rows and models |

Routes are in `train/api.py`, tables in `train/tables.py`. Only the child loads torch.
"""
