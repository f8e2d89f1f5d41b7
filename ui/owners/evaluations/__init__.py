"""The Evaluations tab: runs evaluations and shows their reports."""
