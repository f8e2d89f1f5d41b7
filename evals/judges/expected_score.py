"""A judge's expected score: the mean over its token probabilities. Text and tokens in, numbers out.

Liu et al. 2023 (G-Eval, arXiv:2303.16634) weight each score by its probability, which separates answers that get the
same whole number.
"""

import json
import re
from collections.abc import Mapping, Sequence
from math import exp

from models.chat.judge_prompt import Rubric
from models.chat.messages import Token

GRADES: Mapping[str, float] = {str(grade): float(grade) for grade in range(1, 6)}
# By first letter, since a token may hold no more of the word.
VERDICTS: Mapping[str, float] = {"A": 1.0, "t": 0.5, "B": 0.0}


def expected_grade(text: str, tokens: Sequence[Token], rubric: Rubric) -> float | None:
    """The expected grade of a pointwise judgment, 1 to 5; None if the tokens do not give one.

    It is the overall `score`; if the rubric has weights, the weighted mean of the criteria's expected scores.
    """
    if not rubric.weighted:
        return expected_value(text, tokens, r'"score"\s*:\s*', GRADES)
    scores = {
        name: expected_value(text, tokens, re.escape(json.dumps(name, ensure_ascii=False)) + r"\s*:\s*", GRADES)
        for name in rubric.criteria
    }
    expected = {name: score for name, score in scores.items() if score is not None}
    return rubric.whole(expected) if len(expected) == len(scores) else None


def expected_share(text: str, tokens: Sequence[Token]) -> float | None:
    """Answer A's expected share of the win: its probability plus half of a tie's; None if unknown."""
    return expected_value(text, tokens, r'"verdict"\s*:\s*"', VERDICTS)


def expected_value(text: str, tokens: Sequence[Token], before: str, values: Mapping[str, float]) -> float | None:
    """The mean of `values` under the tokens' probabilities at the last place in the text that follows `before`.

    Args:
        before: a regular expression for the text right before the value.
        values: what each possible value's first letter is worth; other tokens are left out.

    Returns:
        None if there are no tokens, they do not spell the text, or no value is among the most likely tokens.
    """
    places = [match.end() for match in re.finditer(before, text)]
    spelled = "".join(token.text for token in tokens)
    if not places or not tokens:
        return None
    # Searched from the value on: the text before it may differ (characters split between tokens, stripped space).
    # Engines may add a token for the end.
    tail = text[places[-1] :].rstrip()
    place = spelled.rfind(tail)
    if place < 0:
        return None
    for token in tokens:
        if place < len(token.text):
            break
        place -= len(token.text)
    return _mean(token, token.text[:place], values)


def _mean(token: Token, start: str, values: Mapping[str, float]) -> float | None:
    """The mean at one token, of which `start` belongs to the text before the value."""
    mass: dict[str, float] = {}
    for text, logprob in token.likeliest:
        value = text[len(start) : len(start) + 1]
        if text.startswith(start) and value in values:
            mass[value] = mass.get(value, 0.0) + exp(logprob)
    written = token.text[len(start) : len(start) + 1]
    # The chosen value must be among them; otherwise the match comes from another tokenisation.
    if mass.get(written, 0.0) <= 0:
        return None
    return sum(values[value] * share for value, share in mass.items()) / sum(mass.values())
