"""Tests of models/openai_fetch, against a fake account on a real socket."""
