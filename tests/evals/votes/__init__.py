"""Votes: prompts, blind battles, imports and exports."""
