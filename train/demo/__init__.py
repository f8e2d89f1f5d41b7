"""The demo's models: a small base, a tokenizer and three adapters, trained on generated text.

`python -m train.demo` builds all of it into models/demo/. The text comes from frames (TOML files in frames/)
through a seeded generator; no other data is read or downloaded.
"""
