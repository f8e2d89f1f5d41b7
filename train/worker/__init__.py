"""Trainings, and imports, merges and exports of models, as worker jobs: the handlers and the processes they start."""
