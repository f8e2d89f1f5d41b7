"""`python -m bench.training`: training speed, memory, and the leak test of packed rows."""
