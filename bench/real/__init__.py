"""`python -m bench.real`: measures Parley with a real pretrained base on this machine, from data to answers."""
