"""Which token a model learns to end its answers with, if its base has never learnt the template's end-of-turn token.

A pretrained base often reserves tokens, such as `<end_of_turn>`, that its pretraining never used. Their embeddings stay
nearly equal, so everything that raises the probability of one raises that of all the others as much. An adapter, which
does not change embeddings, cannot learn to generate such a token. The model learns the base's end-of-text token
instead, at which engines stop too. Source of the test by similar embeddings: Land and Bartolo, arXiv:2405.05417.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch

from train.trainers.fit_job import Rows
from train.trainers.labelled import LabelledRow
from train.trainers.pairs import Pair
from train.trainers.templates import turn_end
from train.trainers.tokens import Row

# A token that the base has learnt has hardly any other token this near; a reserved token of Gemma 3 has 6,249.
_SIMILARITY = 0.9
_MOST_SIMILAR = 20
_CHUNK = 8_192  # rows of an embedding matrix at a time


@dataclass(frozen=True)
class TurnEndLabel:
    """The id of an end-of-turn token that the base has not learnt, and the id to learn in its place; None if the base
    has not learnt an end-of-text token either.
    """

    end: int
    learnt: int | None

    def apply(self, rows: Rows) -> Rows:
        """The rows, with the learnt token at the end of each answer.

        In conversations only the label changes, because the next turn follows the template's token. The trainers of
        pairs and labelled answers compare input ids, so these change too.
        """
        changed: Any = [self._in_pair(row) if isinstance(row, Pair) else self._in_row(row) for row in rows]
        return changed

    def _in_pair(self, pair: Pair) -> Pair:
        return replace(pair, chosen=self._in_answer(pair.chosen), rejected=self._in_answer(pair.rejected))

    def _in_row(self, row: Row) -> Row:
        if isinstance(row, LabelledRow):
            return self._in_answer(row)
        return replace(row, labels=[self._of(label) for label in row.labels])

    def _in_answer(self, row: Row) -> Row:
        ids = [
            self._of(token) if token == label else token for token, label in zip(row.input_ids, row.labels, strict=True)
        ]
        return replace(row, input_ids=ids, labels=[self._of(label) for label in row.labels])

    def _of(self, token: int) -> int:
        return self.learnt if token == self.end and self.learnt is not None else token


def find_turn_end_label(model: Any, tokenizer: Any) -> TurnEndLabel | None:
    """How answers must end for this model to learn it; None if it can learn the template's own token."""
    end = turn_end(tokenizer).token
    weight: Any = getattr(model.get_output_embeddings(), "weight", None)
    if end is None or weight is None or weight.is_meta or end >= len(weight):
        return None
    # Packed weights of a quantised layer have no row for each token.
    if weight.dim() != 2 or not weight.is_floating_point() or is_learnt(weight, end):
        return None
    others = [token for token in _end_tokens(model, tokenizer) if token != end and token < len(weight)]
    return TurnEndLabel(end, next((token for token in others if is_learnt(weight, token)), None))


def is_learnt(embeddings: torch.Tensor, token: int) -> bool:
    """Whether a token's embedding differs from zero and, seen from the mean, from nearly all other tokens'.

    Args:
        embeddings: of the output layer, (vocabulary, hidden size).
    """
    with torch.no_grad():
        wanted = embeddings[token].float()
        if not wanted.any():  # transformers starts the padding token's with zeros: its logit is always zero
            return False
        chunks = embeddings.split(_CHUNK)
        mean = torch.stack([chunk.float().sum(0) for chunk in chunks]).sum(0) / len(embeddings)
        wanted = (wanted - mean)[None]
        similar = [(torch.cosine_similarity(chunk.float() - mean, wanted) >= _SIMILARITY).sum() for chunk in chunks]
    return int(torch.stack(similar).sum()) <= _MOST_SIMILAR


def _end_tokens(model: Any, tokenizer: Any) -> Iterable[int]:
    """The ids at which an engine stops by the base's own files."""
    configured = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    tokens = configured if isinstance(configured, list) else [configured]
    return [token for token in (*tokens, tokenizer.eos_token_id) if token is not None]
