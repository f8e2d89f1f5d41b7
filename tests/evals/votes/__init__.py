"""Votes: prompts, blind battles, imports, exports."""
