"""`parley generate`: many prompts at one model, in order, with nothing lost by a kill."""
