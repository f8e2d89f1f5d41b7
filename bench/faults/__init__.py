"""`python -m bench.faults`: failing upstreams and killed processes, and what clients see of them."""
