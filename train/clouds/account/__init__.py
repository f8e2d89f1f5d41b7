"""`parley rescue --all` and `parley rescue inventory`: the whole OpenAI account, fetched by `models.openai_fetch`.

| file | content |
|---|---|
| `options` | the options of both |
| `command` | what both do |
| `home_import` | the fetched files and stored completions as those of this home |
| `display` | the inventory and the next commands in a terminal, and as JSON |
"""
