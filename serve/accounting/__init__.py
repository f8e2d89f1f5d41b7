"""What a request leaves behind: limits of its key, usage, figures, a line in the log. `ledger` has the door."""
