"""Management over HTTP, for owners: aliases, keys, jobs and the audit log. It calls what the commands call."""
