"""Stored chat completions, and feedback on answers. The gateway writes them; other rooms read them."""
