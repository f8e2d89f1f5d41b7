"""OpenAI's evals API: evals, runs and output items. The worker's job `eval-run` executes a run."""
