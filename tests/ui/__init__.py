"""Tests of the ui/ room, one file per file."""
