"""Rows into samples: the columns of a task file, and what is wrong with a row that is not a sample.

A row has `messages`, or one of `input`, `prompt`, `question`; an expected answer as `expected`, `target`, `ideal` or
`answer` (a list: each is correct); `topics`, `category`, `id`, `group` (samples of one group are not independent, such
as five questions on one passage), `metadata`; other columns become metadata. Without an expected answer, a conversation
that ends with the assistant's turn is asked up to that turn, which becomes the expected answer.

A row with `turns`, a list of user messages, gives a sample for each turn: the model answers each after its own earlier
answers. The turns are one group.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from evals.scorers.sample import Sample
from evals.tasks.task import BadRow, Task, TaskSample, prompt_hash
from models.chat.messages import Message
from models.errors import Invalid

INPUTS = ("messages", "input", "prompt", "question", "turns")
EXPECTED = ("expected", "target", "ideal", "answer")
_KNOWN = {*INPUTS, *EXPECTED, "topics", "category", "id", "group", "metadata"}
_ID_LIMIT = _CATEGORY_LIMIT = 255  # characters


def make_task(
    name: str, source: str, rows: Iterable[tuple[str, Any]], columns: Mapping[str, str] | None = None
) -> Task:
    """A task from (place, row) pairs; rows that are not samples are in its `bad`, none is dropped silently.

    Args:
        columns: the rows' own names for columns, such as {"input": "utterance"}.

    Raises:
        Invalid: no row is a sample (the message says why), or `columns` has an unknown column.
    """
    names = dict(columns or {})
    if unknown := sorted(set(names) - _KNOWN):
        raise Invalid(
            f"{unknown[0]!r} is not a column of a task. Use one of: {', '.join(sorted(_KNOWN))}.", param="columns"
        )
    samples: list[TaskSample] = []
    bad: list[BadRow] = []
    places: dict[str, str] = {}
    for number, (place, row) in enumerate(rows, start=1):
        try:
            parsed = _samples(row, number, names)
            if duplicate := next((sample.id for sample in parsed if sample.id in places), None):
                raise _RowError(
                    f"its id {duplicate!r} is already used by {places[duplicate]}", "Give each row a unique id."
                )
        except _RowError as error:
            bad.append(BadRow(place, error.problem, error.fix))
        else:
            places |= dict.fromkeys((sample.id for sample in parsed), place)
            samples += parsed
    if not samples:
        reason = str(bad[0]) if bad else "It has no rows."
        raise Invalid(f"{source} has no samples. {reason}", param="task")
    return Task(name, source, tuple(samples), tuple(bad))


class _RowError(Exception):
    """A row is not a sample: what is wrong, and how to fix it."""

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(problem)
        self.problem, self.fix = problem, fix


def _samples(row: Any, number: int, columns: Mapping[str, str]) -> list[TaskSample]:
    """The samples of a row: one, or one for each turn."""
    if isinstance(row, Exception):
        raise _RowError(str(row), "Fix the line or remove it.")
    if not isinstance(row, Mapping):
        raise _RowError("it is not an object", 'Write each row as {"input": "…", "expected": "…"}.')
    row = _renamed(row, columns)
    name = _one_of(row, INPUTS)
    if name is None:
        raise _RowError(
            "it has no question", f"Add one of {', '.join(INPUTS)}, or name the column with --columns input=…."
        )
    own = _short(row, "id", _ID_LIMIT) or str(number)
    if name == "turns":
        turns = _turns(row)
        references = _accepted_by_turn(row, len(turns))
        ids = [f"{own}/{turn}" for turn in range(1, len(turns) + 1)]
    else:
        messages, accepted = _messages(row, name), _accepted(row)
        if messages[-1].role == "assistant" and not accepted:
            accepted, messages = (messages[-1].content,), messages[:-1]
        turns, references, ids = [messages], [accepted], [own]
    return [
        _checked(TaskSample(id_, messages, _sample(row, messages, accepted, turns, last=turn == len(turns)), turn))
        for turn, (id_, messages, accepted) in enumerate(zip(ids, turns, references, strict=True), start=1)
    ]


def _sample(
    row: Mapping[str, Any],
    messages: Sequence[Message],
    accepted: Sequence[str],
    turns: Sequence[Sequence[Message]],
    *,
    last: bool,
) -> Sample:
    """The reference for one turn's answer; topics belong to the last turn."""
    if not messages or messages[-1].role != "user" or not messages[-1].content.strip():
        raise _RowError("the last message is not a user message with text", "End the messages with a question.")
    category = _short(row, "category", _CATEGORY_LIMIT)
    metadata = row.get("metadata") or {}
    if isinstance(metadata, str):  # from a CSV
        metadata = _json(metadata, "metadata")
    if not isinstance(metadata, Mapping):
        raise _RowError("`metadata` is not an object", 'Write it as {"name": value}.')
    metadata = {key: value for key, value in row.items() if key not in _KNOWN} | dict(metadata)
    return Sample(
        prompt=_short(row, "group", _ID_LIMIT) or prompt_hash([message for turn in turns for message in turn]),
        expected=accepted[0] if accepted else None,
        topics=_topics(row.get("topics")) if last else (),
        category=category,
        also=tuple(accepted[1:]),
        metadata=metadata,
    )


def _checked(sample: TaskSample) -> TaskSample:
    try:
        json.dumps(sample.to_json(), allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as error:  # a lone surrogate (\ud800) is a ValueError too
        raise _RowError(f"it has a value that JSON cannot store ({_line(error)})", "Use text or numbers.") from error
    return sample


def _renamed(row: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """The row under our column names; empty columns are left out."""
    sources = set(columns.values())
    renamed = {key: value for key, value in row.items() if key not in sources and key not in columns}
    for column, source in columns.items():
        if source not in row:
            raise _RowError(f"it has no column {source!r}", f"It has: {', '.join(map(str, row))}.")
        renamed[column] = row[source]
    return {key: value for key, value in renamed.items() if value is not None and value != ""}


def _one_of(row: Mapping[str, Any], names: Sequence[str]) -> str | None:
    present = [name for name in names if name in row]
    if len(present) > 1:
        raise _RowError(
            f"it has both {' and '.join(present)}", f"Keep one of them, or choose one with --columns {names[1]}=COLUMN."
        )
    return present[0] if present else None


def _turns(row: Mapping[str, Any]) -> list[tuple[Message, ...]]:
    """The user's messages, turn by turn."""
    texts = _json(row["turns"], "turns") if isinstance(row["turns"], str) else row["turns"]  # from a CSV
    if not isinstance(texts, list | tuple) or not texts or not all(isinstance(text, str) for text in texts):
        raise _RowError("`turns` is not a list of texts", "Write the user's messages as a list of texts.")
    return [(Message(role="user", content=text),) for text in texts]


def _accepted_by_turn(row: Mapping[str, Any], turns: int) -> list[tuple[str, ...]]:
    """Each turn's accepted answers."""
    name = _one_of(row, EXPECTED)
    if name is None:
        return [()] * turns
    answers = _json(row[name], name) if isinstance(row[name], str) else row[name]
    if isinstance(answers, list | tuple) and not answers:  # as data sets write it if no answer is known
        return [()] * turns
    if not isinstance(answers, list | tuple) or len(answers) != turns:
        raise _RowError(
            f"`{name}` does not have one entry for each of its {turns} turns",
            "Write a list, with null where no answer is known.",
        )
    return [() if answer is None else _accepted({name: answer}) for answer in answers]


def _messages(row: Mapping[str, Any], name: str) -> tuple[Message, ...]:
    content: Any = row[name]
    if name == "messages" and isinstance(content, str):  # from a CSV
        content = _json(content, "messages")
    plain = isinstance(content, str | int | float) and not isinstance(content, bool)
    turns: Any = [{"role": "user", "content": str(content)}] if plain else content
    try:
        messages = tuple(Message.model_validate(message) for message in turns)
    except (ValidationError, TypeError) as error:
        raise _RowError(
            f"`{name}` is neither a text nor a list of messages with a role and a text",
            "Roles are system, user and assistant; tools and images are not supported.",
        ) from error
    if not messages:
        raise _RowError("it has no message", "Add at least a user message.")
    return messages


def _accepted(row: Mapping[str, Any]) -> tuple[str, ...]:
    name = _one_of(row, EXPECTED)
    if name is None:
        return ()
    values = row[name] if isinstance(row[name], list | tuple) else [row[name]]
    if not values or not all(isinstance(value, str | int | float) and not isinstance(value, bool) for value in values):
        raise _RowError(
            f"`{name}` is not a text",
            "Write the expected answer as a text, or as a list of texts that are all correct.",
        )
    return tuple(str(value) for value in values)


def _topics(value: Any) -> tuple[tuple[str, ...], ...]:
    if value is None:
        return ()
    if isinstance(value, str):  # from a CSV: "refund|money back; order"
        value = [[word.strip() for word in group.split("|") if word.strip()] for group in value.split(";")]
    fix = "Write a list of words, or of lists of synonyms; in a CSV: refund|money back; order."
    if not isinstance(value, list | tuple):
        raise _RowError("`topics` is not a list", fix)
    groups = [(group,) if isinstance(group, str) else group for group in value]
    if not all(isinstance(group, list | tuple) and group and all(map(_is_word, group)) for group in groups):
        raise _RowError("one of its topics is not a word", fix)
    return tuple(tuple(group) for group in groups)


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _short(row: Mapping[str, Any], name: str, limit: int) -> str | None:
    value = row.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int) or len(str(value)) > limit:
        raise _RowError(f"`{name}` is not a short text", f"Write a text of at most {limit} characters.")
    return str(value)


def _json(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _RowError(f"`{name}` is not JSON ({_line(error)})", "Write it as JSON.") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:120]
