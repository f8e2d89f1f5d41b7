"""Chat streams for clients that sent `functions`: tool calls become `function_call`."""

from serve.transport.sse_frames import FrameFilter
from serve.validation.legacy_functions import translate_frame


class FunctionFrameFilter(FrameFilter):
    """A `FrameFilter` that also translates frames with tool calls."""

    __slots__ = ()

    def feed(self, piece: bytes) -> bytes:
        """As `FrameFilter.feed`."""
        piece = super().feed(piece)
        if b"tool_calls" not in piece:
            return piece
        end = self._block_end
        return b"".join([translate_frame(frame) + end for frame in piece.split(end) if frame])
