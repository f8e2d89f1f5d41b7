"""Conversations: messages, system messages, the judge's prompt, and a client for chat completions."""
