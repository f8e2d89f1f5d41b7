"""Tasks: samples that models answer; scored, stored and compared."""
