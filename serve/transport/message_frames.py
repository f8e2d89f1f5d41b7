"""Filters the events of a /v1/messages stream, Anthropic's API.

Source: vLLM 0.32, entrypoints/anthropic/serving.py, `message_stream_converter`; Anthropic's streaming events have the
same names. `message_start` reports the prompt's tokens, `message_delta` the answer's, and `message_stop` is the last.
"""

from typing import Any

from serve.transport.sse_frames import NamedEventFilter

_PROMPT_COUNTS = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


class MessageFrameFilter(NamedEventFilter):
    """A `NamedEventFilter` whose `usage` combines the counts of all events."""

    __slots__ = ()
    _MARKS = (*NamedEventFilter._MARKS, b"message_start", b"message_delta", b"message_stop")

    def _read_event(self, kind: object, content: dict[str, Any]) -> None:
        if kind == "message_start":
            message = content.get("message")
            self._add_usage(message.get("usage") if isinstance(message, dict) else None)
        elif kind == "message_delta":
            self._add_usage(content.get("usage"))
        elif kind == "message_stop":
            self.complete = True

    def _add_usage(self, usage: Any) -> None:
        """A later count replaces an earlier one, because both are totals."""
        if isinstance(usage, dict):
            self.usage = (self.usage or {}) | {name: value for name, value in usage.items() if value is not None}


def prompt_tokens(usage: dict[str, Any]) -> int:
    """The number of tokens of the prompt. Those read from or written to a cache are counted in separate fields."""
    return sum(value for name in _PROMPT_COUNTS if isinstance(value := usage.get(name), int) and value > 0)
