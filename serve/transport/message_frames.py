"""Filters the events of a /v1/messages stream, Anthropic's API.

Source: vLLM 0.32, entrypoints/anthropic/serving.py, `message_stream_converter`; Anthropic's streaming events have the
same names. `message_start` reports the prompt's tokens, `message_delta` the answer's, and `message_stop` is the last.
"""

from typing import Any

import orjson

from serve.transport.sse_frames import FrameFilter

_READ = (b"message_start", b"message_delta", b"message_stop", b'"error"')
_PROMPT_COUNTS = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


class MessageFrameFilter(FrameFilter):
    """As `FrameFilter`, for named events with no [DONE]. `usage` adds up what the events report."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(hide_usage=False)

    def feed(self, piece: bytes) -> bytes:
        """As `FrameFilter.feed`."""
        if self.complete or self.error is not None:
            return b""
        if self._buffer or not piece.endswith(self._block_end):
            piece = self._take_frames(piece)
        # Generated text may contain these names too: `_is_forwarded` parses the frame.
        return self._filter_frames(piece) if any(name in piece for name in _READ) else piece

    def _is_forwarded(self, frame: bytes) -> bool:
        if self.complete:
            return False
        lines = [line[5:] for line in frame.splitlines() if line.startswith(b"data:")]
        try:
            content = orjson.loads(b"\n".join(lines))
        except orjson.JSONDecodeError:
            return True
        if not isinstance(content, dict):
            return True
        kind = content.get("type")
        if kind == "error":
            error = content.get("error")
            self.error = error if isinstance(error, dict) else {"message": str(error)}
            return False
        if kind == "message_start":
            message = content.get("message")
            self._add_usage(message.get("usage") if isinstance(message, dict) else None)
        elif kind == "message_delta":
            self._add_usage(content.get("usage"))
        elif kind == "message_stop":
            self.complete = True
        return True

    def _add_usage(self, usage: Any) -> None:
        """A later count replaces an earlier one: both are totals."""
        if isinstance(usage, dict):
            self.usage = (self.usage or {}) | {name: value for name, value in usage.items() if value is not None}


def prompt_tokens(usage: dict[str, Any]) -> int:
    """All tokens of the prompt: those read from a cache and those written to it are counted apart."""
    return sum(value for name in _PROMPT_COUNTS if isinstance(value := usage.get(name), int) and value > 0)
