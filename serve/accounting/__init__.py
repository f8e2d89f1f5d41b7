"""What a request leaves behind: limits of its key, usage, figures, a line in the log. `request_report` sends it to each."""
