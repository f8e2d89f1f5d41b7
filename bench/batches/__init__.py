"""Batches: throughput, first tokens beside a batch, memory, kills."""
