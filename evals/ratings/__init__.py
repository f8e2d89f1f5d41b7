"""Statistics of votes: Bradley–Terry ratings, verdicts, the leaderboard, style control, agreement, robustness."""
