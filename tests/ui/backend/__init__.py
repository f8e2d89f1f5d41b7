"""Tests of ui/backend/, one file per file."""
