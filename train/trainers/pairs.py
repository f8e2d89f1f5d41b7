"""Preference pairs as token ids: one prompt twice, once with the answer that is preferred and once with the other.

Ids and labels are found as `tokens` finds them for any conversation, so that what DPO compares is what is served.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from train.data.conversations import Conversation, Example, Preference, Problem
from train.trainers.tokens import Method, Row, tokenise


@dataclass(frozen=True)
class Pair:
    """Two rows with one prompt; only the answers carry labels."""

    line: int
    chosen: Row
    rejected: Row

    @property
    def longest(self) -> int:
        """Tokens of the longer of the two."""
        return max(len(self.chosen.input_ids), len(self.rejected.input_ids))

    @property
    def tokens(self) -> int:
        """Tokens of both."""
        return len(self.chosen.input_ids) + len(self.rejected.input_ids)

    @property
    def learnt(self) -> int:
        """Tokens of both that are compared."""
        return self.chosen.learnt + self.rejected.learnt


@dataclass(frozen=True)
class TokenisedPairs:
    """The pairs, what could not be used and why, and which ways of finding the labels were needed."""

    rows: tuple[Pair, ...]
    problems: tuple[Problem, ...]
    methods: frozenset[Method]


def tokenise_pairs(preferences: Sequence[Preference], tokenizer: Any, max_length: int) -> TokenisedPairs:
    """Ids and labels for both answers of each preference, in order; a pair of which one side cannot be used is left
    out and reported.

    Args:
        preferences: checked pairs.
        tokenizer: a transformers tokenizer with a chat template.
        max_length: tokens that prompt and answer may have together.
    """
    pairs: list[Pair] = []
    problems: list[Problem] = []
    methods: set[Method] = set()
    for preference in preferences:
        sides: list[Row] = []
        for name, answer in (("preferred", preference.chosen), ("not preferred", preference.rejected)):
            found = tokenise([_example(preference, answer)], tokenizer, max_length)
            methods |= found.methods
            problems += [
                Problem(one.line, one.severity, f"the answer that is {name}: {one.message}", one.mend, one.code)
                for one in found.problems
            ]
            # An answer of several turns may come back as several rows, each with its context: the last has it all.
            sides += found.rows[-1:]
        if len(sides) == 2:
            pairs.append(Pair(preference.line, *sides))
    return TokenisedPairs(tuple(pairs), tuple(problems), frozenset(methods))


def _example(preference: Preference, answer: Sequence[Any]) -> Example:
    """The whole conversation, of which only the answer is learnt."""
    messages = (*preference.prompt, *answer)
    before = range(len(preference.prompt))
    said = frozenset(place for place in before if messages[place].role == "assistant")
    return Example(preference.line, Conversation(messages, preference.tools), said)
