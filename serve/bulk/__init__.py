"""`parley generate`: many prompts to one model, in order, resumable after a kill."""
