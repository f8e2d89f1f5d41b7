"""Tests of `evals.graders`."""
