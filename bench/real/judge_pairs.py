"""Pairs of answers of which one is known to be better, made from people's answers to support requests (Bitext).

The better answer is the data's own. The other one has one gross fault: it is about another topic (`other`), is only the
first third (`cut`), or has its sentences in another order (`shuffled`). Such pairs show whether a judge notices these
faults, not whether it ranks two good answers as people do.
"""

import random
import re
from collections.abc import Iterator, Sequence
from typing import Any

from bench.evals.bitext import Request

FAULTS = ("other", "cut", "shuffled")
_SENTENCE = re.compile(r"(?<=[.!?:])\s+|\n+")
_LENGTH = (150, 700)  # characters of an answer
_FEWEST_SENTENCES = 4


def support_pairs(requests: Sequence[Request], count: int, seed: int = 5) -> list[dict[str, Any]]:
    """`count` pairs in the format of the demo's judged pairs, with the faults in turn and random sides."""
    rng = random.Random(seed)
    fitting = [
        request
        for request in requests
        if _LENGTH[0] <= len(request.answer) <= _LENGTH[1]
        and len(set(_SENTENCE.split(request.answer))) >= _FEWEST_SENTENCES
    ]
    return list(_pairs(rng.sample(fitting, len(fitting)), count, rng))


def _pairs(requests: Sequence[Request], count: int, rng: random.Random) -> Iterator[dict[str, Any]]:
    for place, request in enumerate(requests[:count]):
        fault = FAULTS[place % len(FAULTS)]
        faulty = _faulty(request, fault, requests, rng)
        good_first = rng.random() < 0.5
        first, second = (request.answer, faulty) if good_first else (faulty, request.answer)
        yield {
            "question": request.question, "answer_a": first, "answer_b": second,
            "verdict": "A" if good_first else "B", "intent": request.intent, "fault": fault,
        }  # fmt: skip


def _faulty(request: Request, fault: str, requests: Sequence[Request], rng: random.Random) -> str:
    if fault == "other":
        return rng.choice([other for other in requests if other.intent != request.intent]).answer
    if fault == "cut":
        return request.answer[: len(request.answer) // 3].rstrip()
    sentences = _SENTENCE.split(request.answer)
    shuffled = sentences
    while shuffled == sentences:
        shuffled = rng.sample(sentences, len(sentences))
    return " ".join(shuffled)
