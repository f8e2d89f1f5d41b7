"""Tests of stored completions and of feedback."""
