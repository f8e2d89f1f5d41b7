"""Ratings: Bradley–Terry, verdicts, the leaderboard."""
