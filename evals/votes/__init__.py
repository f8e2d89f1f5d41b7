"""What people say: prompts, blind battles, votes; read, imported, exported, and made into preference pairs."""
