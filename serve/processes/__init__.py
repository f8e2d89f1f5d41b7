"""`parley up` as processes: the parent, its children under guardians, their logs, and checks before a start."""
