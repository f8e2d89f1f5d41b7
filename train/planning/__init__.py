"""What a training costs before it starts: tokens, prices, memory and time.

| file | what it holds |
|---|---|
| `token_counts` | tokens by a model's own vocabulary; `check_process` adds them to a report on data |
| `pricing` | what providers charge for them (`prices.toml`) |
| `plan` | whether a local run fits this machine, and how long it takes |
| `spread` | whether several GPUs each hold a copy of the model, or divide one |
| `shapes` | the sizes of a model, from its config |
| `needs`, `speeds` | memory, calculated; speed, measured or estimated |
| `machines` | this machine, and GPUs by their data sheets |
| `commands`, `display` | `parley data count`, `price` and `plan`, and their tables |
"""
