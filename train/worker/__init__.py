"""Training as a worker job: the job handler and the process that it starts."""
