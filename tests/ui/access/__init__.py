"""Tests of ui/access/, one file per file."""
