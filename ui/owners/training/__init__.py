"""The Train tab: starts trainings and shows their progress."""
