"""Child processes under guardians, and their logs."""
