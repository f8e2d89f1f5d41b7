"""The fine-tuning API: OpenAI's requests in, jobs with events, checkpoints and result files out.

| file | what it knows |
|---|---|
| `requests` | what a create may ask for, and how it is refused |
| `names` | what the results are called |
| `creating` | from a request to a job: its base, its files, and the SDK's repeats |
| `lifecycle` | cancel, pause, resume, fail, succeed: which status follows which |
| `reading` | jobs, events and checkpoints as the API shows them, page by page |
| `validating` | the files' check, in the worker |
| `running` | the training, in the worker |
| `telling` | the training's events as rows |
| `results` | the result file |

Routes are in `train/api.py`, tables in `train/tables.py`. Nothing here loads torch or transformers.
"""
