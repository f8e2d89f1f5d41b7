"""Votes of other tools: how a file is read as votes, and how these are stored, listed and removed.

From the bottom up: `rows` is one vote; `content` and `choices` read its texts and its winner; `options` says how;
`tables`, `fastchat` and `openwebui` read a row; `text` splits a file into rows, `formats` reads its votes; `keys` and
`matches` recognise votes that are stored already, `batches` stores the others; `history` lists and undoes imports.
`evals.votes.vote_import` runs an import.
"""
