"""Frames: however a stream is split, the same bytes come out, without the usage frame."""

import json
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.transport.sse_frames import FrameFilter


def frame(content: dict | str, end: bytes = b"\n\n") -> bytes:
    text = content if isinstance(content, str) else json.dumps(content, separators=(",", ":"))
    return b"data: " + text.encode() + end


def chunk(text: str) -> dict:
    return {"id": "1", "choices": [{"index": 0, "delta": {"content": text}}], "usage": None}


USAGE = {"id": "1", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}


def run(stream: bytes, cuts: list[int], *, hide: bool = True) -> tuple[bytes, FrameFilter]:
    frames = FrameFilter(hide_usage=hide)
    places = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    out = b"".join(frames.feed(stream[a:b]) for a, b in pairwise(places))
    return out, frames


@given(
    texts=st.lists(st.text(max_size=30), min_size=1, max_size=6),
    cuts=st.lists(st.integers(0, 10_000), max_size=12),
    end=st.sampled_from([b"\n\n", b"\r\n\r\n"]),
    hide=st.booleans(),
)
@pytest.mark.long
def test_any_cut_gives_the_same_bytes(texts: list[str], cuts: list[int], end: bytes, hide: bool) -> None:
    before = b"".join(frame(chunk(text), end) for text in texts)
    usage, done = frame(USAGE, end), frame("[DONE]", end)
    out, frames = run(before + usage + done, cuts, hide=hide)
    assert out == before + (b"" if hide else usage) + done
    assert frames.complete
    assert frames.usage == USAGE["usage"]


@given(cuts=st.lists(st.integers(0, 10_000), max_size=8))
def test_an_upstreams_error_ends_it_and_done_is_not_believed(cuts: list[int]) -> None:
    good = frame(chunk("a"))
    out, frames = run(good + frame({"error": {"message": "died"}}) + frame("[DONE]"), cuts)
    assert out == good
    assert frames.error == {"message": "died"}
    assert not frames.complete


@given(cut=st.integers(1, 10_000))
def test_half_a_frame_is_never_passed_on(cut: int) -> None:
    stream = frame(chunk("a")) + frame(chunk("b"))
    cut = cut % (len(stream) - 1) + 1
    out, frames = run(stream[:cut], [])
    assert stream.startswith(out)
    assert out.endswith(b"\n\n") or not out
    assert not frames.complete


@given(cuts=st.lists(st.integers(0, 10_000), max_size=8))
@pytest.mark.long
def test_a_blank_after_the_colon_is_not_needed(cuts: list[int]) -> None:
    out, frames = run((frame(chunk("a")) + frame(USAGE) + frame("[DONE]")).replace(b"data: ", b"data:"), cuts)
    assert out == (frame(chunk("a")) + frame("[DONE]")).replace(b"data: ", b"data:")
    assert frames.complete
    assert frames.usage == USAGE["usage"]


@given(cuts=st.lists(st.integers(0, 10_000), max_size=8))
def test_nothing_comes_after_the_end(cuts: list[int]) -> None:
    stream = frame(chunk("a")) + frame("[DONE]")
    out, frames = run(stream + frame(chunk("b")) + frame({"error": {"message": "late"}}) + frame("[DONE]"), cuts)
    assert out == stream
    assert frames.complete
    assert frames.error is None


def test_a_frame_that_never_ends_is_an_error_and_is_not_kept() -> None:
    frames = FrameFilter(hide_usage=True)
    sent = 0
    while not frames.ended:
        assert frames.feed(b"data: " + b"a" * 2**16) == b""
        sent += 1
        assert sent < 2**10
    assert frames.error is not None
    assert "bytes" in frames.error["message"]


def test_a_long_frame_in_many_small_pieces_costs_no_more_than_its_length() -> None:
    frames = FrameFilter(hide_usage=True)
    began = time.process_time()
    for _ in range(2**15):
        assert frames.feed(b"a" * 64) == b""
    assert frames.feed(b"\n\n") == b"a" * 2**21 + b"\n\n"
    assert time.process_time() - began < 1  # with a full copy for each piece, it took 8 s and more


def test_text_that_looks_like_our_marks_is_only_text() -> None:
    texts = ['"usage": {', '{"error": {"message": "x"}}', "data: [DONE]", "\n\ndata: [DONE]\n\n"]
    stream = b"".join(frame(chunk(text)) for text in texts)
    out, frames = run(stream, [])
    assert out == stream
    assert frames.error is None
    assert frames.usage is None
    assert not frames.complete
