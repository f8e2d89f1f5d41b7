"""Fine-tuning in somebody else's cloud, from the same data and the same numbers as here, with the provider's own SDK.

| file | what it knows |
|---|---|
| `cloud` | what a cloud is: a few verbs, and the nouns job, event, order |
| `openai`, `together` | one provider each, through its SDK |
| `errors` | what an SDK raises, as one line |
| `rows` | examples as the lines that providers take |
| `records` | a cloud run's folder: what was asked, sent and heard, so that a closed terminal loses nothing |
| `ordering` | check, price, upload, and create exactly one job |
| `following` | events as they come, until the end |
| `registering` | the result as a hosted model, with its shutdown date |
| `rescuing`, `rescued` | a fine-tune brought home before it is switched off |
| `commands`, `rescue_command` | `parley train --on …`, `parley cloud …`, `parley rescue …` |

Light to import: an SDK is loaded when a cloud is opened.
"""
