"""Tests of train/publication."""
