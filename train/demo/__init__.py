"""The demo model: a small base, a tokenizer and three adapters, made from text that this folder writes itself.

`python -m train.demo` builds all of it into models/demo/. The text comes from frames (TOML data in frames/) through a
seeded generator; nothing is read from anybody else's data, and nothing is fetched.
"""
