"""Replicas of a model on this machine: latency, throughput and recovery."""
