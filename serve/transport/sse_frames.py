"""Filters the server-sent events of a stream as bytes: reads the usage frame and detects how the stream ends.

A frame is parsed only if a cheap byte search finds something to parse; everything else is copied.
"""

from typing import Any, ClassVar

import orjson

_DONE = b"[DONE]"
_USAGE, _NO_USAGE = b'"usage":', b'"usage":null'
_LAST_EVENTS = frozenset({"response.completed", "response.incomplete", "response.failed"})
_MAX_FRAME_BYTES = 2**23  # so that a frame without an end cannot fill the memory


class FrameFilter:
    """Filters one stream of chunks. `feed` takes each piece and returns the bytes for the client.

    `complete`: the stream ended with [DONE]. `error`: the error with which the upstream ended it. Once either is set,
    `feed` returns nothing more. `usage`: the upstream's token counts.
    """

    __slots__ = ("_block_end", "_buffer", "_hide_usage", "complete", "error", "usage")

    def __init__(self, *, hide_usage: bool) -> None:
        self._hide_usage = hide_usage
        self._buffer = bytearray()
        self._block_end = b"\n\n"
        self.usage: dict[str, Any] | None = None
        self.error: dict[str, Any] | None = None
        self.complete = False

    @property
    def ended(self) -> bool:
        """Whether nothing more can follow."""
        return self.complete or self.error is not None

    def feed(self, piece: bytes) -> bytes:
        """Takes a piece of the upstream's stream and returns the frames that it completes.

        Frames that report an error, and anything after the end of the stream, are left out.
        """
        if self.complete or self.error is not None:
            return b""
        if self._buffer or not piece.endswith(self._block_end):
            piece = self._take_frames(piece)
        if _DONE in piece:
            piece = self._cut_at_done(piece)
        # Quotation marks inside JSON strings are escaped, so these searches match keys only. OpenAI's own chunks have
        # `"usage": null` in all but the last.
        if b'"error"' in piece or (_USAGE in piece and piece.count(_USAGE) > piece.count(_NO_USAGE)):
            piece = self._filter_frames(piece)
        return piece

    def _take_frames(self, piece: bytes) -> bytes:
        """The complete frames of the buffer and the new piece; the rest stays buffered. Scans each byte once."""
        buffer, seam = self._buffer, len(self._buffer)
        buffer += piece
        if not buffer.endswith(self._block_end):
            if self._block_end == b"\n\n" and buffer.find(b"\r\n", max(seam - 1, 0)) >= 0:
                self._block_end, seam = b"\r\n\r\n", 0
            cut = buffer.rfind(self._block_end, max(seam - 3, 0))
            if cut < 0:
                if len(buffer) > _MAX_FRAME_BYTES:
                    buffer.clear()
                    self.error = {"message": f"The model's server sent a frame of more than {_MAX_FRAME_BYTES} bytes."}
                return b""
            end = cut + len(self._block_end)
        else:
            end = len(buffer)
        piece = bytes(buffer[:end])
        del buffer[:end]
        return piece

    def _cut_at_done(self, piece: bytes) -> bytes:
        for mark in (b"data: [DONE]", b"data:[DONE]"):
            start = 0 if piece.startswith(mark) else piece.find(b"\n" + mark) + 1
            if start or piece.startswith(mark):
                self.complete = True
                return piece[: piece.find(self._block_end, start) + len(self._block_end)]
        return piece

    def _filter_frames(self, block: bytes) -> bytes:
        forwarded = []
        for frame in block.split(self._block_end):
            if frame and self._is_forwarded(frame):
                forwarded.append(frame + self._block_end)
            if self.error is not None:
                self.complete = False  # a [DONE] after the error does not count
                break
        return b"".join(forwarded)

    def _is_forwarded(self, frame: bytes) -> bool:
        start = frame.find(b"data:")
        if start < 0 or not (b'"usage":' in frame or b'"error"' in frame):
            return True
        try:
            content = orjson.loads(frame[start + 5 :])
        except orjson.JSONDecodeError:
            return True
        if not isinstance(content, dict):
            return True
        if error := content.get("error"):
            self.error = error if isinstance(error, dict) else {"message": str(error)}
            return False
        usage = content.get("usage")
        if isinstance(usage, dict):
            self.usage = usage
            return not (self._hide_usage and content.get("choices") == [])
        return True


class NamedEventFilter(FrameFilter):
    """Filters a stream of named events without [DONE]. A subclass's `_read_event` recognises the last event.

    A piece without any of `_MARKS` is forwarded unread. Generated text may contain them too, so frames are parsed.
    """

    __slots__ = ()
    _MARKS: ClassVar[tuple[bytes, ...]] = (b'"error"',)

    def __init__(self) -> None:
        super().__init__(hide_usage=False)

    def feed(self, piece: bytes) -> bytes:
        """As `FrameFilter.feed`."""
        if self.complete or self.error is not None:
            return b""
        if self._buffer or not piece.endswith(self._block_end):
            piece = self._take_frames(piece)
        for mark in self._MARKS:
            if mark in piece:
                return self._filter_frames(piece)
        return piece

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
        if kind == "error" or (kind is None and content.get("error")):
            error = content.get("error") or content
            self.error = error if isinstance(error, dict) else {"message": str(error)}
            return False
        self._read_event(kind, content)
        return True

    def _read_event(self, kind: object, content: dict[str, Any]) -> None:
        """Stores an event's usage, and sets `complete` at the last event."""


class ResponsesFrameFilter(NamedEventFilter):
    """Filters a stream of `/v1/responses`, in which one of three kinds of event is the last.

    The last event holds the whole response with its usage. A stream that ends with `response.failed` is complete too.
    """

    __slots__ = ()
    _MARKS = (*NamedEventFilter._MARKS, *(event.encode() for event in sorted(_LAST_EVENTS)))

    def _read_event(self, kind: object, content: dict[str, Any]) -> None:
        if isinstance(kind, str) and kind in _LAST_EVENTS:
            response = content.get("response")
            usage = response.get("usage") if isinstance(response, dict) else None
            self.usage = usage if isinstance(usage, dict) else None
            self.complete = True
