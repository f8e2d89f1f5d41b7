"""The intents, frames and words of the demo, read from words.toml and frames/*.toml."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

Style = Literal["neutral", "concise", "friendly"]
Split = Literal["train", "held_out"]
STYLES: tuple[Style, ...] = ("neutral", "concise", "friendly")
_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Topic:
    """One fact of the policy: any of `keys` in a text shows that it is stated; `asks` is the follow-up it answers."""

    keys: tuple[str, ...]
    asks: str
    say: tuple[str, ...]


@dataclass(frozen=True)
class Intent:
    """One intent of users. Small talk has no topics; its whole answers are in `answers`."""

    id: str
    domain: str
    about: str
    needs: str | None
    frames: tuple[str, ...]
    held_out: tuple[str, ...]
    topics: tuple[Topic, ...]
    neutral_parts: tuple[tuple[str, ...], ...]
    friendly_starts: tuple[str, ...]
    answers: Mapping[Style, tuple[str, ...]]

    @property
    def is_chat(self) -> bool:
        """Whether this is small talk."""
        return not self.topics

    def questions(self, split: Split) -> tuple[str, ...]:
        """The question frames of a split."""
        return self.frames if split == "train" else self.held_out


@dataclass(frozen=True)
class Catalogue:
    """All intents, and the content of words.toml."""

    intents: tuple[Intent, ...]
    words: Mapping[str, Any]

    @cached_property
    def business(self) -> tuple[Intent, ...]:
        """The intents with a policy."""
        return tuple(intent for intent in self.intents if not intent.is_chat)

    @cached_property
    def chats(self) -> tuple[Intent, ...]:
        """Small talk and out-of-scope questions."""
        return tuple(intent for intent in self.intents if intent.is_chat)

    def intent(self, name: str) -> Intent:
        """The intent with this id. Raises KeyError if there is none."""
        for intent in self.intents:
            if intent.id == name:
                return intent
        raise KeyError(name)

    def is_number(self, need: str | None) -> bool:
        """Whether a need is a number (of an order, a booking, …) and not a word such as a plan."""
        return need in self.words["formats"]

    def slot_of(self, need: str) -> str:
        """The slot of a need: "number" for every kind of number."""
        return "number" if self.is_number(need) else need


def load_catalogue(folder: Path = _HERE) -> Catalogue:
    """Reads words.toml and frames/*.toml. Raises KeyError or tomllib's error for an invalid file."""
    intents: list[Intent] = []
    for path in sorted((folder / "frames").glob("*.toml")):
        data = tomllib.loads(path.read_text("utf-8"))
        intents += [_intent(data["domain"], row) for row in data.get("intent", [])]
        intents += [_chat(data["domain"], row) for row in data.get("chat", [])]
    return Catalogue(tuple(intents), tomllib.loads((folder / "words.toml").read_text("utf-8")))


def _intent(domain: str, row: Mapping[str, Any]) -> Intent:
    topics = tuple(Topic(tuple(topic["keys"]), topic["asks"], tuple(topic["say"])) for topic in row["topics"])
    return Intent(
        id=row["id"],
        domain=domain,
        about=row["about"],
        needs=row.get("needs"),
        frames=tuple(row["frames"]),
        held_out=tuple(row["held_out"]),
        topics=topics,
        neutral_parts=tuple(tuple(part) for part in row["neutral"]),
        friendly_starts=tuple(row["friendly"]),
        answers={"concise": tuple(row["concise"])},
    )


def _chat(domain: str, row: Mapping[str, Any]) -> Intent:
    answers: dict[Style, tuple[str, ...]] = {style: tuple(row[style]) for style in STYLES}
    return Intent(
        id=row["id"],
        domain=domain,
        about=row["about"],
        needs=None,
        frames=tuple(row["frames"]),
        held_out=tuple(row["held_out"]),
        topics=(),
        neutral_parts=(),
        friendly_starts=(),
        answers=answers,
    )
