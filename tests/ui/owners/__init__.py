"""Tests of ui/owners/, one file per file."""
