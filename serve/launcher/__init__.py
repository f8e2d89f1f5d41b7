"""`parley up` and `parley serve`: the parent process, its services, preflight checks, status and doctor."""
