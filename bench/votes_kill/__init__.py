"""SIGKILLs of the page and of voting processes: every acknowledged vote is stored exactly once."""
