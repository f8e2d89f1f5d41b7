"""Streams of `/v1/responses` with fields that the model's server does not know: `store` and `previous_response_id`."""

from typing import Any

import orjson

from serve.transport.sse_frames import ResponsesFrameFilter

_RESPONSE = b'"response":'


class ShownFieldsFilter(ResponsesFrameFilter):
    """A `ResponsesFrameFilter` that also sets fields of each response in an event."""

    __slots__ = ("_shown",)

    def __init__(self, shown: dict[str, Any]) -> None:
        super().__init__()
        self._shown = shown

    def feed(self, piece: bytes) -> bytes:
        """As `FrameFilter.feed`."""
        piece = super().feed(piece)
        # Quotation marks inside JSON strings are escaped, so this matches a key.
        if _RESPONSE not in piece:
            return piece
        end = self._block_end
        return b"".join([self._with_fields(frame) + end for frame in piece.split(end) if frame])

    def _with_fields(self, frame: bytes) -> bytes:
        if _RESPONSE not in frame:
            return frame
        lines = frame.splitlines()
        try:
            content = orjson.loads(b"\n".join([line[5:] for line in lines if line.startswith(b"data:")]))
        except orjson.JSONDecodeError:
            return frame
        response = content.get("response") if isinstance(content, dict) else None
        if not isinstance(response, dict):
            return frame
        data = b"data: " + orjson.dumps(content | {"response": response | self._shown})
        return self._block_end[: len(self._block_end) // 2].join(
            [*(line for line in lines if not line.startswith(b"data:")), data]
        )
