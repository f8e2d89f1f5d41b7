"""Tasks: files, requests, storage, comparison."""
