"""Management over HTTP, for owners: aliases, keys, jobs and the audit log. The routes call what the commands call."""
