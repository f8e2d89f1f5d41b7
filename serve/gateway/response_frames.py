"""Streams of `/v1/responses` with fields that the model's server does not know: `store` and `previous_response_id`."""

import re
from typing import Any

import orjson

from serve.transport.sse_frames import ResponsesFrameFilter

# Quotation marks inside JSON strings are escaped, so this matches a key.
_KEY = b'"response":'
_COMPACT = b'"response":{"'
_SPACED = re.compile(rb'"response":\s*\{(?=\s*")')


class ShownFieldsFilter(ResponsesFrameFilter):
    """A `ResponsesFrameFilter` that also sets fields of the response in the first and last events.

    A server may send null for `previous_response_id`, so a frame is parsed to replace it. `store` alone is inserted: a
    server that has such a field sends what the client wanted.
    """

    __slots__ = ("_compact", "_inserted", "_shown")
    _MARKS = (*ResponsesFrameFilter._MARKS, _KEY)

    def __init__(self, shown: dict[str, Any]) -> None:
        super().__init__()
        self._shown = shown
        self._inserted = orjson.dumps(shown)[1:-1] + b"," if len(shown) == 1 and "store" in shown else b""
        self._compact = _COMPACT[:-1] + self._inserted + b'"'

    def _filter_frames(self, block: bytes) -> bytes:
        for mark in ResponsesFrameFilter._MARKS:
            if mark in block:
                block = super()._filter_frames(block)
                break
        end = self._block_end
        if block.count(end) < 2:
            return self._with_fields(block[: -len(end)]) + end if block else block
        return b"".join([self._with_fields(frame) + end for frame in block.split(end) if frame])

    def _with_fields(self, frame: bytes) -> bytes:
        if _KEY not in frame:
            return frame
        if self._inserted:
            if _COMPACT in frame:
                return frame.replace(_COMPACT, self._compact, 1)
            return _SPACED.sub(lambda match: match.group() + self._inserted, frame, count=1)
        lines = frame.splitlines()
        try:
            content = orjson.loads(b"\n".join([line[5:] for line in lines if line.startswith(b"data:")]))
        except orjson.JSONDecodeError:
            return frame
        response = content.get("response") if isinstance(content, dict) else None
        if not isinstance(response, dict):
            return frame
        data = b"data: " + orjson.dumps(content | {"response": response | self._shown})
        line_end = self._block_end[: len(self._block_end) // 2]
        return line_end.join([*(line for line in lines if not line.startswith(b"data:")), data])
