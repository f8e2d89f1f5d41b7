"""What votes show: Bradley–Terry ratings, verdicts, the leaderboard, and how reliable they are."""
