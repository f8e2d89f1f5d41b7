"""Engines on the nodes of a Ray cluster. Nothing here imports Ray until a cluster is connected."""
