"""Contamination: which of a task's questions are in a training set, exactly or nearly.

Each question, and its whole conversation, is looked up among the user turns of the training data (`models.likeness`).
The training set is chat JSONL.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evals.tasks.task import TaskSample
from models.errors import Invalid, NotFound
from models.likeness import LikenessIndex, Match, fingerprint, normalise

ALIKE = 0.8  # of the shingles of both, from which two questions count as nearly the same


@dataclass(frozen=True)
class Taught:
    """A question and its answer in the training data."""

    place: str
    question: str
    answer: str


@dataclass(frozen=True)
class Overlap:
    """A sample that is in the training data. `overlap` is 1.0 for a copy; `answer_too`: its expected answer is too."""

    sample: TaskSample
    place: str
    overlap: float
    answer_too: bool

    @property
    def exact(self) -> bool:
        """Whether the words are the same, ignoring case, punctuation and white space."""
        return self.overlap == 1.0


@dataclass(frozen=True)
class Contamination:
    """How much of a task is in the training data: `found` has one entry for each such sample."""

    samples: int
    taught: int
    found: tuple[Overlap, ...]

    @property
    def summary(self) -> str:
        """The result in one sentence."""
        if not self.found:
            return f"None of {self.samples} questions is in the training data, not even as a near copy."
        exact = sum(overlap.exact for overlap in self.found)
        answers = sum(overlap.answer_too for overlap in self.found)
        return (
            f"{len(self.found)} of {self.samples} questions are in the training data: {exact} copied exactly, "
            f"{len(self.found) - exact} nearly the same, {answers} with the expected answer. "
            "A model trained on this data scores too high here."
        )


def contamination(samples: Sequence[TaskSample], taught: Iterable[Taught], alike: float = ALIKE) -> Contamination:
    """Looks up every sample's question in the training data; the most similar entry counts.

    Args:
        taught: questions and answers of the training, as `read_taught` returns them.
        alike: the Jaccard overlap from which two questions count as nearly the same.
    """
    index = LikenessIndex(alike)
    turns: list[list[Taught]] = []  # by their place in the index
    count = 0
    for turn in taught:
        count += 1
        text = fingerprint(turn.question)
        if not len(text.shingles):
            continue
        place = index.copy(text)
        if place is None:
            place = len(turns)
            turns.append([])
            index.add(place, text)
        turns[place].append(turn)
    overlaps = []
    for sample in samples:
        texts = dict.fromkeys((sample.question, _conversation(sample)))
        best = max(
            filter(None, (_closest(index, text) for text in texts)), key=lambda match: match.overlap, default=None
        )
        if best:
            overlaps.append(_overlap(sample, best.overlap, turns[best.place]))
    return Contamination(len(samples), count, tuple(overlaps))


def _closest(index: LikenessIndex, question: str) -> Match | None:
    """The most similar question of the training data; None if there is none."""
    text = fingerprint(question)
    if (place := index.copy(text)) is not None:
        return Match(place, 1.0)
    return max(index.near(text), key=lambda match: match.overlap, default=None)


def read_taught(path: Path) -> Iterator[Taught]:
    """The user turns of a chat JSONL (`messages`, or preference pairs), each with the answer after it.

    A conversation of several user turns gives each turn, and all of them together.

    Raises:
        NotFound: there is no such file. Invalid: a line is not a conversation; the message names it.
    """
    try:
        lines = path.read_text("utf-8-sig").split("\n")
    except FileNotFoundError as error:
        raise NotFound(f"There is no file {path}.", param="training") from error
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"{path} cannot be read as UTF-8 text: {error}.", param="training") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        place = f"line {number}"
        try:
            turns = _turns(json.loads(line))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise Invalid(
                f"{path}, {place}: not a conversation. Run `parley data check` on the file.",
                param="training",
            ) from error
        questions = [text for role, text in turns if role == "user"]
        for i, (role, text) in enumerate(turns):
            if role == "user":
                after = turns[i + 1][1] if i + 1 < len(turns) and turns[i + 1][0] == "assistant" else ""
                yield Taught(place, text, after)
        if len(questions) > 1:
            yield Taught(place, "\n".join(questions), turns[-1][1] if turns[-1][0] == "assistant" else "")


def _turns(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    if "messages" in row:
        messages = row["messages"]
    elif "preferred_output" in row:
        messages = [*row["input"]["messages"], *row["preferred_output"]]
    elif "chosen" in row:
        prompt = row.get("prompt") or []
        messages = [*([{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt), *row["chosen"]]
    elif "prompt" in row and "completion" in row:
        messages = [
            {"role": "user", "content": str(row["prompt"])}, {"role": "assistant", "content": str(row["completion"])},
        ]  # fmt: skip
    else:
        raise ValueError("no conversation")
    return [(message["role"], _text(message.get("content"))) for message in messages]


def _text(content: Any) -> str:
    """A message's text; of content in parts, the text parts."""
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
    return content if isinstance(content, str) else ""


def _conversation(sample: TaskSample) -> str:
    return "\n".join(message.content for message in sample.messages if message.role == "user")


def _overlap(sample: TaskSample, share: float, places: Sequence[Taught]) -> Overlap:
    accepted = {normalise(text) for text in sample.sample.accepted}
    answered = [turn for turn in places if normalise(turn.answer) in accepted - {""}]
    return Overlap(sample, (answered or places)[0].place, share, bool(answered))
