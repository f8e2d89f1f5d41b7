"""The OpenAPI document: built from the gateway's own operations and schemas, and from those of mounted routes."""
