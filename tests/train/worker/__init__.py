"""Tests of train/worker."""
