"""Judges: prompts, verdicts, calibration."""
