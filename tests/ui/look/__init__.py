"""Tests of ui/look/, one file per file."""
