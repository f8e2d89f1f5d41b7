"""People's votes: prompts, blind battles, stored votes, import, export, preference pairs."""
