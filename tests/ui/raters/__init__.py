"""Tests of ui/raters/, one file per file."""
