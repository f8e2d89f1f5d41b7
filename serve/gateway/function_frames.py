"""A chat stream for a client that sent `functions`: `function_call` in place of tool calls."""

from serve.transport.sse_frames import FrameFilter
from serve.validation.legacy_functions import translate_frame


class FunctionFrameFilter(FrameFilter):
    """As `FrameFilter`, and translates the frames that have tool calls."""

    __slots__ = ()

    def feed(self, piece: bytes) -> bytes:
        """As `FrameFilter.feed`."""
        piece = super().feed(piece)
        if b"tool_calls" not in piece:
            return piece
        end = self._block_end
        return b"".join([translate_frame(frame) + end for frame in piece.split(end) if frame])
