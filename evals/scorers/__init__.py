"""Scorers: functions that score one answer, by name or from your own Python file, and means over many answers."""
