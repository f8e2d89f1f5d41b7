"""Copies what an OpenAI account holds into a folder, with the standard library of Python 3.9 or later alone.

    OPENAI_API_KEY=sk-… python3 -m models.openai_fetch --out account

| file | content |
|---|---|
| `account` | the account, its key and address, and the errors of a fetch |
| `client` | GET requests, repeated after rate limits and broken connections |
| `folder` | files that appear whole or not at all, and the manifest |
| `kinds` | what an account holds: the kinds of objects and where their copies are |
| `fetch` | lists first, then what belongs to each object, continued after a kill |
| `shutdown_dates` | when models are shut down: a copy of `models/registry/shutdowns.toml` |
| `inventory`, `inventory_text`, `inventory_html` | the fine-tunes by urgency, in a terminal and as a page |
| `progress`, `command` | the command line |
| `single_file` | everything as one file, for machines without Parley |

`parley rescue --all` uses the same functions. Nothing here imports another part of Parley but `models/html_page.py`.
"""
