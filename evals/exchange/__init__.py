"""Evals from and to other tools: promptfoo's configurations and results, and tasks for Inspect."""
