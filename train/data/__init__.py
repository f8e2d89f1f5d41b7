"""Training data: read, checked, counted, priced, split, converted. Light: only `planning` meets torch.

| file | what it knows |
|---|---|
| `conversations` | the nouns: conversation, example, preference pair, problem |
| `files` | bytes and lines: JSONL, JSON, CSV, Parquet, data sets |
| `formats`, `openai_rows` | the shapes of a row, and what each means |
| `readers` | a file of any format as examples, pairs and problems |
| `checks` | what is wrong, and what mends it: it puts the next five together |
| `turns`, `texts`, `personal` | one example: its order, its words, personal data in it |
| `consistency`, `duplicates` | a set: whether it agrees with itself; copies and near copies |
| `reports` | what was found, the same for every door |
| `splits`, `splitting` | training and validation parts, of examples and of files |
| `converting` | any format into OpenAI's |
| `counting`, `pricing` | tokens by a model's vocabulary; what providers ask for them (`prices.toml`) |
| `planning`, `needs`, `speeds` | whether a local run fits, and how long it takes: memory by formula, time tried out |
| `synthesising`, `advising` | more examples by a served model; whether to train at all |
| `checking`, `endpoint` | the check as a process, and as `POST /v1/parley/data/check` |
| `commands`, `money_commands`, `making_commands`, `showing` | `parley data …`, and its tables |
"""
