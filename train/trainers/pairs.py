"""Preference pairs as token ids: the same prompt with the preferred answer and with the other one.

Ids and labels come from `tokens`, as for any conversation, so that DPO compares what is served.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from train.data.conversations import Conversation, Example, Preference
from train.trainers.thoughts import ThoughtCheck
from train.trainers.tokens import Row, Tokenised, join_parts, tokenise


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


def tokenise_pairs(preferences: Sequence[Preference], tokenizer: Any, max_length: int) -> Tokenised[Pair]:
    """Ids and labels for both answers of each preference, in order; a pair with an unusable side is left out and
    reported.

    Args:
        preferences: checked pairs.
        tokenizer: a transformers tokenizer with a chat template.
        max_length: the limit of prompt and answer together, in tokens.
    """
    thoughts = ThoughtCheck(tokenizer)

    def side(preference: Preference, name: str, answer: Sequence[Any]) -> Tokenised[Row]:
        tokenised = tokenise([_example(preference, answer)], tokenizer, max_length, thoughts)
        named = (replace(problem, message=f"the {name} answer: {problem.message}") for problem in tokenised.problems)
        return replace(tokenised, problems=tuple(named))

    sides = [
        (side(preference, "preferred", preference.chosen), side(preference, "other", preference.rejected))
        for preference in preferences
    ]
    # An answer of several turns may give several rows, each with its context: the last one holds everything.
    pairs = [
        Pair(chosen.rows[-1].line, chosen.rows[-1], rejected.rows[-1])
        for chosen, rejected in sides
        if chosen.rows and rejected.rows
    ]
    return join_parts(pairs, chain.from_iterable(sides), thoughts)


def _example(preference: Preference, answer: Sequence[Any]) -> Example:
    """The whole conversation, with only the answer to be learnt."""
    messages = (*preference.prompt, *answer)
    context = range(len(preference.prompt))
    unweighted = frozenset(position for position in context if messages[position].role == "assistant")
    return Example(preference.line, Conversation(messages, preference.tools), unweighted)
