"""The API described: `document` makes OpenAPI's JSON of `shapes` and `operations`, and of what other rooms offer."""
