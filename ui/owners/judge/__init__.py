"""The Judge tab: starts judging runs and shows their reports."""
