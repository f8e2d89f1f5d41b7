"""Checks on incoming requests: HTTP headers and paths, JSON, allowed fields, limits on sizes and schemas."""
