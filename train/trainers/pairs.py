"""Preference pairs as token ids: the same prompt with the preferred answer and with the other one.

Ids and labels come from `tokens`, as for any conversation, so that DPO compares what is served.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from train.data.conversations import Conversation, Example, Preference, Problem
from train.trainers.thoughts import ThoughtCheck
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
    """The pairs, what could not be used and why, the methods that found the labels, and warnings about all pairs."""

    rows: tuple[Pair, ...]
    problems: tuple[Problem, ...]
    methods: frozenset[Method]
    warnings: tuple[Problem, ...] = ()


def tokenise_pairs(preferences: Sequence[Preference], tokenizer: Any, max_length: int) -> TokenisedPairs:
    """Ids and labels for both answers of each preference, in order; a pair with an unusable side is left out and
    reported.

    Args:
        preferences: checked pairs.
        tokenizer: a transformers tokenizer with a chat template.
        max_length: the limit of prompt and answer together, in tokens.
    """
    pairs: list[Pair] = []
    problems: list[Problem] = []
    methods: set[Method] = set()
    thoughts = ThoughtCheck(tokenizer)
    for preference in preferences:
        sides: list[Row] = []
        for name, answer in (("preferred", preference.chosen), ("other", preference.rejected)):
            tokenised = tokenise([_example(preference, answer)], tokenizer, max_length, thoughts)
            methods |= tokenised.methods
            problems += [
                replace(problem, message=f"the {name} answer: {problem.message}") for problem in tokenised.problems
            ]
            # An answer of several turns may give several rows, each with its context: the last one holds everything.
            sides += tokenised.rows[-1:]
        if len(sides) == 2:
            pairs.append(Pair(preference.line, *sides))
    return TokenisedPairs(tuple(pairs), tuple(problems), frozenset(methods), thoughts.problems())


def _example(preference: Preference, answer: Sequence[Any]) -> Example:
    """The whole conversation, with only the answer to be learnt."""
    messages = (*preference.prompt, *answer)
    context = range(len(preference.prompt))
    unweighted = frozenset(position for position in context if messages[position].role == "assistant")
    return Example(preference.line, Conversation(messages, preference.tools), unweighted)
