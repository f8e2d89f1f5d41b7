"""Accounting of requests: rate limits of keys, usage, metrics and the access log."""
