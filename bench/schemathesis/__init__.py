"""`python -m bench.schemathesis`: requests generated from the OpenAPI document against a real gateway."""
