"""What votes come to: Bradley–Terry ratings, verdicts, the leaderboard, and how far they can be believed."""
