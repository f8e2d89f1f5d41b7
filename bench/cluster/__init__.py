"""Engines on a Ray cluster whose nodes run on this machine: latency, throughput and recovery."""
