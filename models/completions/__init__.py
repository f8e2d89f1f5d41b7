"""Chat completions that were stored on request, and feedback on answers. The gateway writes, other rooms read."""
