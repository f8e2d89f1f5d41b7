"""The Leaderboard tab: ratings from blind votes."""
