"""Server-sent events as bytes: passes whole frames on, finds the usage, and tells whole streams from broken ones.

It looks into a frame only where a cheap search says that there is something to see; everything else is copied.
"""

from typing import Any

import orjson

DONE = b"data: [DONE]"


class Frames:
    """One stream on its way through. `feed` each piece that comes; what it returns goes to the client.

    After the last piece, `whole` says whether the stream ended as one should; `error` holds what the upstream said
    where it broke off by itself; `usage` is its count of tokens.
    """

    __slots__ = ("_block_end", "_held", "_hide_usage", "error", "usage", "whole")

    def __init__(self, *, hide_usage: bool) -> None:
        self._hide_usage = hide_usage
        self._held = b""
        self._block_end = b"\n\n"
        self.usage: dict[str, Any] | None = None
        self.error: dict[str, Any] | None = None
        self.whole = False

    def feed(self, piece: bytes) -> bytes:
        """Takes a piece of the upstream's stream; returns the frames that are complete with it.

        Nothing is returned of a frame in which the upstream reports an error, nor of anything after it.
        """
        if self.error is not None:
            return b""
        if self._held:
            piece = self._held + piece
            self._held = b""
        if not piece.endswith(self._block_end):
            if b"\r\n" in piece:
                self._block_end = b"\r\n\r\n"
            cut = piece.rfind(self._block_end)
            cut = cut + len(self._block_end) if cut >= 0 else 0
            self._held = piece[cut:]
            piece = piece[:cut]
        # Inside a JSON string a quotation mark is escaped, so these match keys only.
        if b'"usage":' in piece or b'"error"' in piece:
            piece = self._look(piece)
        if self.error is None and DONE in piece:
            self.whole = piece.startswith(DONE) or (b"\n" + DONE) in piece
        return piece

    def _look(self, block: bytes) -> bytes:
        kept = []
        for frame in block.split(self._block_end):
            if frame and self._passes(frame):
                kept.append(frame + self._block_end)
            if self.error is not None:
                break
        return b"".join(kept)

    def _passes(self, frame: bytes) -> bool:
        start = frame.find(b"data: {")
        if start < 0 or not (b'"usage":' in frame or b'"error"' in frame):
            return True
        try:
            content = orjson.loads(frame[start + 6 :])
        except orjson.JSONDecodeError:
            return True
        if error := content.get("error"):
            self.error = error if isinstance(error, dict) else {"message": str(error)}
            return False
        usage = content.get("usage")
        if isinstance(usage, dict):
            self.usage = usage
            return not (self._hide_usage and content.get("choices") == [])
        return True
