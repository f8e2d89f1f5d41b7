"""Fine-tuning at OpenAI and Together AI, with the same data and hyperparameters as here, through the providers' SDKs.

| file | what it holds |
|---|---|
| `cloud` | the protocol of a provider and its types: job request, job, event |
| `providers` | opens a provider by its name |
| `openai`, `together`, `sdk` | the providers, and what their SDKs have in common |
| `offer`, `submission` | the data checked and priced; exactly one job created |
| `run_records` | the folder of a cloud run, from which it can continue |
| `follower`, `registration` | the events of a job until it ends; its model registered as hosted |
| `rescue_plan`, `rescue`, `rescue_record` | a fine-tune retrained here before it is switched off |
| `recording_offer` | the old model's answers recorded first |
| `account/` | the whole OpenAI account fetched into the home |
| `commands`, `rescue_command`, `rescue_options` | `parley train --on …`, `parley cloud …`, `parley rescue …` |
| `display` | what they print |

Light to import: an SDK is loaded when a cloud is opened.
"""
