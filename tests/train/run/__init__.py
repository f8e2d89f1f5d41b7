"""Tests of train/run."""
