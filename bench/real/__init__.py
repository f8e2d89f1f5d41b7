"""`python -m bench.real`: what Parley does to a real pretrained base on this machine, from data to answers."""
