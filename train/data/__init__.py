"""Training data: read, checked, counted, priced, split, converted. No torch, no model, no training.

| file | what it knows |
|---|---|
| `conversations` | the nouns: conversation, example, preference pair, problem |
| `readers` | the file formats |
| `checks` | what is wrong with examples, and what mends it |
| `splits` | training and validation parts |
| `commands` | `parley data …` |
"""
