"""A run's folder: its files and result, checkpoints, resume, origins, events, curves, failures and trackers."""
