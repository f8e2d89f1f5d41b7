"""An alias that splits its requests between several models. The same user or conversation always gets the same model.

The choice depends on the request alone, so it is the same after a restart and in every process.
"""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from itertools import accumulate
from typing import Any

import orjson

_USER_FIELDS = ("user", "safety_identifier")
# A conversation is identified by its first user message: system prompts often contain the time.
_TEXT_FIELDS = ("messages", "input", "prompt")


@dataclass(frozen=True)
class AliasSplit:
    """A split alias. `ends`: the upper end of each model's part of the interval from 0 to 1."""

    alias: str
    models: tuple[str, ...]
    ends: tuple[float, ...]

    def choose(self, content: Mapping[str, Any]) -> str:
        """The id of the model that answers this request."""
        return self.models[min(bisect_right(self.ends, self._point(content)), len(self.models) - 1)]

    @property
    def shares(self) -> dict[str, float]:
        """Model id → its share of the users or conversations, from 0 to 1."""
        starts = (0.0, *self.ends)
        return {model: round(end - start, 6) for model, start, end in zip(self.models, starts, self.ends, strict=False)}

    def _point(self, content: Mapping[str, Any]) -> float:
        """A number from 0 to 1, uniformly distributed over users or conversations, independent for each alias."""
        digest = blake2b(_identity(content), digest_size=8, key=self.alias.encode()[:64]).digest()
        return int.from_bytes(digest) / 2**64


def alias_split(alias: str, weights: Mapping[str, float]) -> AliasSplit:
    """The split of an alias in proportion to its models' weights; the models are ordered by id."""
    total = sum(weights.values())
    models = tuple(sorted(weights))
    return AliasSplit(alias, models, tuple(accumulate(weights[model] / total for model in models)))


def _identity(content: Mapping[str, Any]) -> bytes:
    metadata = content.get("metadata")
    users = [content.get(name) for name in _USER_FIELDS]
    users.append(metadata.get("user_id") if isinstance(metadata, dict) else None)  # Anthropic's name
    for user in users:
        if isinstance(user, str) and user:
            return b"user " + user.encode("utf-8", "surrogatepass")
    value = next((content[name] for name in _TEXT_FIELDS if content.get(name)), None)
    if isinstance(value, list):
        value = next((part for part in value if isinstance(part, dict) and part.get("role") == "user"), value)
    if isinstance(value, dict):
        value = value.get("content")
    try:
        return b"text " + orjson.dumps(value)
    except orjson.JSONEncodeError:
        return b""  # nested too deeply: the request is refused later
