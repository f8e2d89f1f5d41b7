"""The fine-tuning API: OpenAI's requests in, jobs with events, checkpoints and result files out.

| file | content |
|---|---|
| `requests` | the create request's fields and the errors for invalid ones |
| `names` | names of results, ids |
| `creation` | a request becomes a job: its base, its files, repeated requests |
| `lifecycle` | cancel, pause, resume, fail: the status transitions |
| `views` | jobs, events and checkpoints as API objects, in pages |
| `validation`, `checked_data` | the check of the files, in the worker, and its stored outcome |
| `training_job`, `child`, `memory` | the training: in the worker, in its process, and its wait for memory |
| `events`, `checkpoint_models` | the training's events and checkpoints as rows and models |
| `integrations`, `result_file` | wandb, and the CSV of metrics |

Routes are in `train/api.py`, tables in `train/tables.py`. Only the child loads torch.
"""
