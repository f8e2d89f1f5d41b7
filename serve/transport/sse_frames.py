"""Server-sent events as bytes: passes whole frames on, finds the usage, and tells whole streams from broken ones.

It looks into a frame only where a cheap search says that there is something to see; everything else is copied.
"""

from typing import Any

import orjson

_DONE = b"[DONE]"
_USAGE, _NO_USAGE = b'"usage":', b'"usage":null'
_LAST_EVENTS = frozenset({"response.completed", "response.incomplete", "response.failed"})
_MOST = 2**23  # bytes that one frame may have: one that never ends shall not fill the memory


class Frames:
    """One stream on its way through. `feed` each piece that comes; what it returns goes to the client.

    `whole` says whether the stream has ended as one should; `error` holds what the upstream said where it broke off
    by itself; once either is set, nothing more comes out. `usage` is its count of tokens.
    """

    __slots__ = ("_block_end", "_held", "_hide_usage", "error", "usage", "whole")

    def __init__(self, *, hide_usage: bool) -> None:
        self._hide_usage = hide_usage
        self._held = bytearray()
        self._block_end = b"\n\n"
        self.usage: dict[str, Any] | None = None
        self.error: dict[str, Any] | None = None
        self.whole = False

    @property
    def over(self) -> bool:
        """Whether nothing more can come: what the upstream still sends need not be waited for."""
        return self.whole or self.error is not None

    def feed(self, piece: bytes) -> bytes:
        """Takes a piece of the upstream's stream; returns the frames that are complete with it.

        Nothing is returned of a frame in which the upstream reports an error, nor of anything after the stream's end.
        """
        if self.whole or self.error is not None:
            return b""
        if self._held or not piece.endswith(self._block_end):
            piece = self._complete(piece)
        if _DONE in piece:
            piece = self._until_done(piece)
        # Inside a JSON string a quotation mark is escaped, so these match keys only. In OpenAI's own chunks usage is a
        # null in all but the last.
        if b'"error"' in piece or (_USAGE in piece and piece.count(_USAGE) > piece.count(_NO_USAGE)):
            piece = self._look(piece)
        return piece

    def _complete(self, piece: bytes) -> bytes:
        """What is complete of what was held and what has come; the rest is held. Looks at each byte once."""
        held, seam = self._held, len(self._held)
        held += piece
        if not held.endswith(self._block_end):
            if self._block_end == b"\n\n" and held.find(b"\r\n", max(seam - 1, 0)) >= 0:
                self._block_end, seam = b"\r\n\r\n", 0
            cut = held.rfind(self._block_end, max(seam - 3, 0))
            if cut < 0:
                if len(held) > _MOST:
                    held.clear()
                    self.error = {"message": f"The model's server sent a frame of more than {_MOST} bytes."}
                return b""
            end = cut + len(self._block_end)
        else:
            end = len(held)
        piece = bytes(held[:end])
        del held[:end]
        return piece

    def _until_done(self, piece: bytes) -> bytes:
        for mark in (b"data: [DONE]", b"data:[DONE]"):
            start = 0 if piece.startswith(mark) else piece.find(b"\n" + mark) + 1
            if start or piece.startswith(mark):
                self.whole = True
                return piece[: piece.find(self._block_end, start) + len(self._block_end)]
        return piece

    def _look(self, block: bytes) -> bytes:
        kept = []
        for frame in block.split(self._block_end):
            if frame and self._passes(frame):
                kept.append(frame + self._block_end)
            if self.error is not None:
                self.whole = False  # whatever stands after it
                break
        return b"".join(kept)

    def _passes(self, frame: bytes) -> bool:
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


class EventFrames(Frames):
    """A stream of `/v1/responses`: named events, of which one of three is the last, and no [DONE].

    The last event holds the whole response, its usage with it. One that says that the response failed is a whole
    stream all the same: the upstream has said so to its end.
    """

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(hide_usage=False)

    def feed(self, piece: bytes) -> bytes:
        """As `Frames.feed`."""
        if self.whole or self.error is not None:
            return b""
        if self._held or not piece.endswith(self._block_end):
            piece = self._complete(piece)
        # Mere text may have these words in it too: `_passes` looks.
        if b"response.completed" in piece or b"response.incomplete" in piece or b"response.failed" in piece:
            return self._look(piece)
        return self._look(piece) if b'"error"' in piece else piece

    def _look(self, block: bytes) -> bytes:
        kept = []
        for frame in block.split(self._block_end):
            if frame and self._passes(frame):
                kept.append(frame + self._block_end)
            if self.over:
                break
        return b"".join(kept)

    def _passes(self, frame: bytes) -> bool:
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
        if kind in _LAST_EVENTS:
            response = content.get("response")
            usage = response.get("usage") if isinstance(response, dict) else None
            self.usage = usage if isinstance(usage, dict) else None
            self.whole = True
        return True
