"""Simulated votes with a known truth: coverage of a verdict's intervals, wrong calls, power, and the leaderboard's."""
