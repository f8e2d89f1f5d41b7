"""A task: samples to ask models, with what their answers are held against; a name, and a hash that goes into results.

Rows come from JSONL, CSV or a `datasets` folder or id (`rows`), from prompts that are stored here, or from what a
training held out. A row has `messages`, or one of `input`, `prompt`, `question`; an expected answer as `expected`,
`target`, `ideal` or `answer` (a list: each is right); `topics`, `category`, `id`, `group` (samples of one group are
not independent: one passage with five questions), `metadata`; what else it has becomes metadata. Without an expected
answer, a conversation that ends with the assistant's turn is asked up to there, and that turn is what is expected.

A row with `turns`, a list of what the user says one after the other, is a sample for each turn: the model answers each
in the light of its own answers before. They are one group.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from evals.scorers.text_match import Sample
from models.errors import Invalid
from models.messages import Message, as_dicts, last_question

INPUTS = ("messages", "input", "prompt", "question", "turns")
EXPECTED = ("expected", "target", "ideal", "answer")
_KNOWN = {*INPUTS, *EXPECTED, "topics", "category", "id", "group", "metadata"}
_ID_LIMIT = _CATEGORY_LIMIT = 255  # characters


@dataclass(frozen=True)
class TaskSample:
    """One question: what is asked, and what its answer is held against. `id` is the row's own, or its number.

    `turn` counts the turns of a conversation from 1. A later one follows the sample right before it: its `messages`
    are what the user says then, and what was said until then is each model's own.
    """

    id: str
    messages: tuple[Message, ...]
    sample: Sample
    turn: int = 1

    @property
    def question(self) -> str:
        """The last user turn."""
        return last_question(self.messages)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values, and as the hash sees it."""
        sample = self.sample
        return {
            "id": self.id,
            "messages": as_dicts(self.messages),
            "expected": list(sample.accepted),
            "topics": [list(group) for group in sample.topics],
            "category": sample.category,
            "group": sample.prompt,
            "metadata": dict(sample.metadata),
        } | ({"turn": self.turn} if self.turn > 1 else {})

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "TaskSample":
        """The sample that `to_json` wrote."""
        expected = row["expected"]
        sample = Sample(
            prompt=row["group"],
            expected=expected[0] if expected else None,
            topics=tuple(tuple(group) for group in row["topics"]),
            category=row["category"],
            also=tuple(expected[1:]),
            metadata=row["metadata"],
        )
        messages = tuple(Message.model_validate(message) for message in row["messages"])
        return cls(row["id"], messages, sample, row.get("turn", 1))


@dataclass(frozen=True)
class BadRow:
    """A row that is no sample: where it stands, what is wrong, and what to do about it."""

    place: str
    what: str
    mend: str

    def __str__(self) -> str:
        return f"{self.place}: {self.what}. {self.mend}"


@dataclass(frozen=True)
class Task:
    """Samples under a name. Two tasks with the same hash ask and expect the same, whatever they are called."""

    name: str
    source: str
    samples: tuple[TaskSample, ...]
    bad: tuple[BadRow, ...] = ()
    hash: str = field(init=False)

    def __post_init__(self) -> None:
        content = json.dumps([sample.to_json() for sample in self.samples], ensure_ascii=True, sort_keys=True)
        object.__setattr__(self, "hash", hashlib.sha256(content.encode()).hexdigest())

    def first(self, count: int | None) -> "Task":
        """The first so many rows, with all their turns: a task of its own, with a hash of its own."""
        if count is not None and count < 1:
            raise Invalid("Ask for one sample at least.", param="limit")
        begins = [place for place, sample in enumerate(self.samples) if sample.turn == 1]
        if count is None or count >= len(begins):
            return self
        return Task(self.name, self.source, self.samples[: begins[count]], self.bad)


def conversations(samples: Sequence[TaskSample]) -> list[list[int]]:
    """The places of the samples, those of one conversation together and in order."""
    found: list[list[int]] = []
    for place, sample in enumerate(samples):
        if sample.turn == 1 or not found:
            found.append([])
        found[-1].append(place)
    return found


def asked_of(samples: Sequence[TaskSample], texts: Sequence[str | None], place: int) -> tuple[Message, ...]:
    """What a model was asked at a place: the user's words last, and before them its own conversation.

    Args:
        texts: its answers, in the order of the samples; those before a later turn that was answered are there.
    """
    said: list[Message] = []
    for before in range(place - samples[place].turn + 1, place):
        said += [*samples[before].messages, Message(role="assistant", content=texts[before] or "")]
    return (*said, *samples[place].messages)


def make_task(
    name: str, source: str, rows: Iterable[tuple[str, Any]], columns: Mapping[str, str] | None = None
) -> Task:
    """Makes a task from (place, row) pairs; rows that are no samples are in its `bad`, none is dropped unsaid.

    Args:
        columns: which of the rows' columns stands for one of ours, such as {"input": "utterance"}.

    Raises:
        Invalid: no row is a sample (the line says why), or `columns` names none of ours.
    """
    wanted = dict(columns or {})
    if strangers := sorted(set(wanted) - _KNOWN):
        raise Invalid(
            f"{strangers[0]!r} is no column of a task: there are {', '.join(sorted(_KNOWN))}.", param="columns"
        )
    samples: list[TaskSample] = []
    bad: list[BadRow] = []
    known: dict[str, str] = {}
    for number, (place, row) in enumerate(rows, start=1):
        try:
            found = _samples(row, number, wanted)
            if taken := next((one.id for one in found if one.id in known), None):
                raise _Bad(f"its id {taken!r} is that of {known[taken]}", "Give each row an id of its own.")
        except _Bad as error:
            bad.append(BadRow(place, error.what, error.mend))
        else:
            known |= dict.fromkeys((one.id for one in found), place)
            samples += found
    if not samples:
        reason = str(bad[0]) if bad else "There are no rows in it."
        raise Invalid(f"{source} holds no sample. {reason}", param="task")
    return Task(name, source, tuple(samples), tuple(bad))


class _Bad(Exception):
    """A row that is no sample."""

    def __init__(self, what: str, mend: str) -> None:
        super().__init__(what)
        self.what, self.mend = what, mend


def _samples(row: Any, number: int, columns: Mapping[str, str]) -> list[TaskSample]:
    """The samples of a row: one, or one for each turn."""
    if isinstance(row, Exception):
        raise _Bad(str(row), "Mend the line or take it out.")
    if not isinstance(row, Mapping):
        raise _Bad("it is no object", 'Write each row as {"input": "…", "expected": "…"}.')
    row = _renamed(row, columns)
    name = _one_of(row, INPUTS)
    if name is None:
        raise _Bad("it asks nothing", f"Give it one of {', '.join(INPUTS)}, or name the column with --columns input=….")
    own = _short(row, "id", _ID_LIMIT) or str(number)
    if name == "turns":
        asked = _turns(row)
        wanted = _accepted_by_turn(row, len(asked))
        ids = [f"{own}/{turn}" for turn in range(1, len(asked) + 1)]
    else:
        messages, accepted = _messages(row, name), _accepted(row)
        if messages[-1].role == "assistant" and not accepted:
            accepted, messages = (messages[-1].content,), messages[:-1]
        asked, wanted, ids = [messages], [accepted], [own]
    return [
        _checked(TaskSample(id_, messages, _sample(row, messages, accepted, asked, last=turn == len(asked)), turn))
        for turn, (id_, messages, accepted) in enumerate(zip(ids, asked, wanted, strict=True), start=1)
    ]


def _sample(
    row: Mapping[str, Any],
    messages: Sequence[Message],
    accepted: Sequence[str],
    turns: Sequence[Sequence[Message]],
    *,
    last: bool,
) -> Sample:
    """What one turn's answer is held against; topics are what the last one should cover."""
    if not messages or messages[-1].role != "user" or not messages[-1].content.strip():
        raise _Bad("the last message is not the user's, with words in it", "End the messages with a question.")
    category = _short(row, "category", _CATEGORY_LIMIT)
    metadata = row.get("metadata") or {}
    if isinstance(metadata, str):  # as a CSV has it
        metadata = _json(metadata, "metadata")
    if not isinstance(metadata, Mapping):
        raise _Bad("its metadata is no object", 'Write it as {"name": value}.')
    metadata = {key: value for key, value in row.items() if key not in _KNOWN} | dict(metadata)
    return Sample(
        prompt=_short(row, "group", _ID_LIMIT) or prompt_hash([message for turn in turns for message in turn]),
        expected=accepted[0] if accepted else None,
        topics=_topics(row.get("topics")) if last else (),
        category=category,
        also=tuple(accepted[1:]),
        metadata=metadata,
    )


def _checked(found: TaskSample) -> TaskSample:
    try:
        json.dumps(found.to_json(), allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as error:  # half a character (\ud800) is a ValueError too
        raise _Bad(f"it holds what JSON cannot ({_line(error)})", "Write it as text or numbers.") from error
    return found


def prompt_hash(messages: Sequence[Message]) -> str:
    """The SHA-256 of what is asked."""
    return hashlib.sha256(json.dumps(as_dicts(messages), ensure_ascii=True).encode()).hexdigest()


def _renamed(row: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """The row with our names for its columns; a column that is empty is as if it were not there."""
    taken = set(columns.values())
    found = {key: value for key, value in row.items() if key not in taken and key not in columns}
    for ours, theirs in columns.items():
        if theirs not in row:
            raise _Bad(f"it has no column {theirs!r}", f"It has: {', '.join(map(str, row))}.")
        found[ours] = row[theirs]
    return {key: value for key, value in found.items() if value is not None and value != ""}


def _one_of(row: Mapping[str, Any], names: Sequence[str]) -> str | None:
    found = [name for name in names if name in row]
    if len(found) > 1:
        told = " and ".join(found)
        raise _Bad(
            f"it has {told}, and which one counts is not clear", f"Keep one, or say --columns {names[1]}=COLUMN."
        )
    return found[0] if found else None


def _turns(row: Mapping[str, Any]) -> list[tuple[Message, ...]]:
    """What the user says, turn by turn."""
    given = _json(row["turns"], "turns") if isinstance(row["turns"], str) else row["turns"]  # as a CSV has them
    if not isinstance(given, list | tuple) or not given or not all(isinstance(text, str) for text in given):
        raise _Bad("its turns are no list of texts", "Write what the user says one after the other, as texts.")
    return [(Message(role="user", content=text),) for text in given]


def _accepted_by_turn(row: Mapping[str, Any], turns: int) -> list[tuple[str, ...]]:
    """Each turn's right answers."""
    name = _one_of(row, EXPECTED)
    if name is None:
        return [()] * turns
    given = _json(row[name], name) if isinstance(row[name], str) else row[name]
    if isinstance(given, list | tuple) and not given:  # as data sets have it where no answer is known
        return [()] * turns
    if not isinstance(given, list | tuple) or len(given) != turns:
        raise _Bad(
            f"its {name} is not one for each of its {turns} turns", "Write a list, with null where none is known."
        )
    return [() if one is None else _accepted({name: one}) for one in given]


def _messages(row: Mapping[str, Any], name: str) -> tuple[Message, ...]:
    given: Any = row[name]
    if name == "messages" and isinstance(given, str):  # as a CSV has them
        given = _json(given, "messages")
    plain = isinstance(given, str | int | float) and not isinstance(given, bool)
    turns: Any = [{"role": "user", "content": str(given)}] if plain else given
    try:
        found = tuple(Message.model_validate(message) for message in turns)
    except (ValidationError, TypeError) as error:
        raise _Bad(
            f"its {name} is neither a text nor messages with a role and a text each",
            "Roles are system, user and assistant; tools and images cannot be asked here.",
        ) from error
    if not found:
        raise _Bad("it has no message", "Write at least the user's.")
    return found


def _accepted(row: Mapping[str, Any]) -> tuple[str, ...]:
    name = _one_of(row, EXPECTED)
    if name is None:
        return ()
    given = row[name] if isinstance(row[name], list | tuple) else [row[name]]
    if not given or not all(isinstance(value, str | int | float) and not isinstance(value, bool) for value in given):
        raise _Bad(
            f"its {name} is no text", "Write what is expected as a text, or as a list of texts of which each is right."
        )
    return tuple(str(value) for value in given)


def _topics(given: Any) -> tuple[tuple[str, ...], ...]:
    if given is None:
        return ()
    if isinstance(given, str):  # as a CSV has them: "refund|money back; order"
        given = [[word.strip() for word in group.split("|") if word.strip()] for group in given.split(";")]
    mend = "Topics are a list of words, or of lists of words that mean the same; in a CSV: refund|money back; order."
    if not isinstance(given, list | tuple):
        raise _Bad("its topics are no list", mend)
    groups = [(group,) if isinstance(group, str) else group for group in given]
    if not all(isinstance(group, list | tuple) and group and all(map(_is_word, group)) for group in groups):
        raise _Bad("one of its topics is no word", mend)
    return tuple(tuple(group) for group in groups)


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _short(row: Mapping[str, Any], name: str, limit: int) -> str | None:
    value = row.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int) or len(str(value)) > limit:
        raise _Bad(f"its {name} is no short text", f"Write a text of at most {limit} characters.")
    return str(value)


def _json(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _Bad(f"its {name} is no JSON ({_line(error)})", "Write it as JSON.") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:120]
