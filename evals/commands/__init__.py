"""The room's Typer commands, one file for each group: votes and ratings, judges, evaluations."""
