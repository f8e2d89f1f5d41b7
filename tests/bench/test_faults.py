"""The fault bench classifies whole, cut, broken and surplus bytes, and the targets of its signals."""

import json

import pytest

from bench.faults.client import Observation, read_bytes
from bench.faults.process_kills import process_faults
from bench.faults.proxy import FAULTS
from bench.faults.upstream_faults import Case, cases, judge

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
DONE = b"data: [DONE]\n\n"


def frame(text: str) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": {"content": text}}]}).encode() + b"\n\n"


def error_frame() -> bytes:
    return b'data: {"error": {"message": "gone"}}\n\n'


def chunks(*parts: bytes, end: bool = True) -> bytes:
    return HEAD + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n" * end


@pytest.mark.parametrize(
    ("answer", "outcome", "text"),
    [
        (chunks(frame("a"), frame("b"), DONE), "whole", "ab"),
        (chunks(frame("a"), frame("b")), "truncated", "ab"),
        (chunks(frame("a"), DONE, end=False), "truncated", ""),
        (chunks(frame("a"), error_frame()), "broken", "a"),
        (chunks(frame("a"), DONE, error_frame()), "truncated", "a"),
        (chunks(frame("a"), error_frame(), DONE), "truncated", "a"),
        (chunks(frame("a"), b'data: {"x\n\n', DONE), "unreadable", "a"),
        (b"\x16\x03\x01", "lost", ""),
        (b"", "truncated", ""),
    ],
)
def test_a_stream_is_judged_by_its_bytes(answer: bytes, outcome: str, text: str) -> None:
    observation = read_bytes(answer, stream=True)
    assert (observation.outcome, observation.text) == (outcome, text)


def test_a_refusal_has_openais_shape_or_is_unreadable() -> None:
    def refused(content: object) -> str:
        body = json.dumps(content).encode()
        head = b"HTTP/1.1 503 X\r\ncontent-length: %d\r\n\r\n" % len(body)
        return read_bytes(head + body, stream=True).outcome

    assert refused({"error": {"message": "m", "type": "t", "param": None, "code": None}}) == "refused"
    assert refused({"error": {"message": "m"}}) == "unreadable"


def test_unexpected_observations_are_reported() -> None:
    resets = next(fault for fault in FAULTS if fault.name == "resets in the answer")
    case = Case(resets, hosted=True, stream=True, client="raw")
    good = Observation("broken", 200, "ab", "gone", 0.1)
    assert judge(case, good, "abc", 1.0) == []
    assert judge(case, Observation("whole", 200, "abc", "", 0.1), "abc", 1.0)
    assert judge(case, Observation("broken", 200, "ax", "gone", 0.1), "abc", 1.0)
    assert judge(case, Observation("broken", 200, "ab", "gone", 2.0), "abc", 1.0)
    assert judge(case, Observation("refused", 503, "", "", 0.1), "abc", 1.0) == []  # an early reset
    assert judge(case, Observation("refused", 400, "", "", 0.1), "abc", 1.0) == ["status 400"]


def test_twenty_signals_reach_every_process() -> None:
    hit = {(blow.sent, blow.target) for blow in process_faults(20)}
    for name in ("gateway", "page", "worker", "engine", "core", "parent"):
        assert {("KILL", name), ("STOP", name)} <= hit
    for name in ("gateway's guardian", "page's guardian", "worker's guardian", "engine's guardian"):
        assert ("KILL", name) in hit


def test_each_fault_has_every_case_and_each_case_a_model() -> None:
    every = cases()
    assert len(every) == len(FAULTS) * 3 * 2 * 2
    assert len({case.model for case in every}) == len(every)
