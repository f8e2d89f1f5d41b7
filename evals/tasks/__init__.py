"""Tasks: samples asked of models, scored, stored, compared and reported."""
