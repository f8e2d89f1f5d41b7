"""Tests of train/trainers."""
