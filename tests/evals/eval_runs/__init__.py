"""Tests of `evals.eval_runs`: the evals API with the real SDK, in front of the real gateway and job."""
