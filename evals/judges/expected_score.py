"""What a judge would have said on average: a score's expected value over the tokens that it might have written.

Liu et al. 2023 (G-Eval, arXiv:2303.16634) weight each score by its probability, which tells answers apart that get the
same whole number. Pure: an answer's text and tokens in, numbers out. It asks nobody.
"""

import json
import re
from collections.abc import Mapping, Sequence
from math import exp

from models.judge_format import Rubric
from models.messages import Token

GRADES: Mapping[str, float] = {str(grade): float(grade) for grade in range(1, 6)}
# Named by its first letter, since a token may hold no more of it.
VERDICTS: Mapping[str, float] = {"A": 1.0, "t": 0.5, "B": 0.0}


def expected_grade(text: str, tokens: Sequence[Token], rubric: Rubric) -> float | None:
    """The expected grade of a pointwise answer, 1 to 5; None where the tokens do not tell.

    It is the whole's `score`; where the rubric has weights, the weighted mean of the criteria's expected scores.
    """
    if not rubric.weighted:
        return expected(text, tokens, r'"score"\s*:\s*', GRADES)
    scores = {
        name: expected(text, tokens, re.escape(json.dumps(name, ensure_ascii=False)) + r"\s*:\s*", GRADES)
        for name in rubric.criteria
    }
    known = {name: score for name, score in scores.items() if score is not None}
    return rubric.whole(known) if len(known) == len(scores) else None


def expected_share(text: str, tokens: Sequence[Token]) -> float | None:
    """The expected share of the win of the answer called A: its probability and half a tie's; None if untold."""
    return expected(text, tokens, r'"verdict"\s*:\s*"', VERDICTS)


def expected(text: str, tokens: Sequence[Token], before: str, values: Mapping[str, float]) -> float | None:
    """The mean of `values` under the tokens' probabilities at the last place in the text that follows `before`.

    Args:
        before: a regular expression for what stands right before the value.
        values: what each possible value's first letter is worth; what else might have stood there is left out.

    Returns:
        None where there are no tokens, they do not spell the text, or none of the values is among the likeliest.
    """
    places = [found.end() for found in re.finditer(before, text)]
    spelt = "".join(token.text for token in tokens)
    if not places or not tokens:
        return None
    # Counted from the value on: what stands before it may hold letters that tokens spell in halves, and what a server
    # strips. Engines may add a token for the end.
    tail = text[places[-1] :].rstrip()
    place = spelt.rfind(tail)
    if place < 0:
        return None
    for token in tokens:
        if place < len(token.text):
            break
        place -= len(token.text)
    return _mean(token, token.text[:place], values)


def _mean(token: Token, start: str, values: Mapping[str, float]) -> float | None:
    """The mean at one token, of which `start` belongs to what stands before the value."""
    mass: dict[str, float] = {}
    for text, logprob in token.likeliest:
        value = text[len(start) : len(start) + 1]
        if text.startswith(start) and value in values:
            mass[value] = mass.get(value, 0.0) + exp(logprob)
    written = token.text[len(start) : len(start) + 1]
    # The written value itself must be among them, else what is found is another tokenisation's rest.
    if mass.get(written, 0.0) <= 0:
        return None
    return sum(values[value] * share for value, share in mass.items()) / sum(mass.values())
