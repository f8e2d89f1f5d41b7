"""Exports of Label Studio and Argilla: one row of a table for each person's choice.

Label Studio: tasks with `data` and `annotations`, each with a `result` of the type pairwise or choices. Argilla:
records with `fields`, `metadata` and `responses`, as `dataset.records.to_list()` gives them, nested or flattened.
Neither knows which models answered: they are columns of the task's data, or of the record's fields or metadata.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from evals.votes.imports.options import COLUMNS
from evals.votes.imports.rows import NotAVote, RowError
from evals.votes.imports.tables import Table

Row = Mapping[str, Any] | RowError | NotAVote
_RESPONSES = ".responses"  # how a flattened column of Argilla's ends


def is_label_studio(row: Mapping[str, Any]) -> bool:
    """Whether this is a task of Label Studio's JSON export."""
    return isinstance(row.get("data"), Mapping) and isinstance(row.get("annotations"), Sequence)


def is_argilla(row: Mapping[str, Any]) -> bool:
    """Whether this is a record of Argilla's."""
    nested = isinstance(row.get("fields"), Mapping) and "responses" in row
    return nested or any(isinstance(name, str) and name.endswith(_RESPONSES) for name in row)


def label_studio_rows(tasks: Iterable[tuple[int, Any]], table: Table) -> Iterator[tuple[int, Any]]:
    """A row for each annotation of a task, with the task's place."""
    for line, task in tasks:
        if not (isinstance(task, Mapping) and is_label_studio(task)):
            yield (
                line,
                task if isinstance(task, RowError) else RowError("it is not a task with `data` and `annotations`"),
            )
        elif not task["annotations"]:
            yield line, NotAVote("a task without annotations")
        else:
            for annotation in task["annotations"]:
                yield line, _label_studio_row(task["data"], annotation, table)


def _label_studio_row(data: Mapping[str, Any], annotation: Any, table: Table) -> Row:
    if not isinstance(annotation, Mapping):
        return RowError("an annotation is not an object")
    if annotation.get("was_cancelled"):
        return NotAVote("an annotation that was cancelled")
    chosen = [choice for part in annotation.get("result") or () if (choice := _selected(part)) is not None]
    if len(chosen) != 1:
        return RowError(
            f"an annotation has {len(chosen)} choices of the type pairwise or choices instead of one: export as CSV, "
            "and name the column with --columns winner=YOURS"
        )
    person = annotation.get("completed_by")
    return dict(data) | {
        table.column("winner"): chosen[0],
        table.column("voter"): f"annotator-{person.get('id') if isinstance(person, Mapping) else person}",
        table.column("created"): annotation.get("created_at"),
        table.column("id"): annotation.get("id"),
    }


def _selected(part: Any) -> Any:
    """The choice in one part of an annotation's result; None if it is something else."""
    value = part.get("value") if isinstance(part, Mapping) else None
    if not isinstance(value, Mapping):
        return None
    if part.get("type") == "pairwise":
        return value.get("selected")
    choices = value.get("choices") if part.get("type") == "choices" else None
    return choices[0] if isinstance(choices, list) and len(choices) == 1 else None


def argilla_rows(records: Iterable[tuple[int, Any]], table: Table) -> Iterator[tuple[int, Any]]:
    """A row for each response to a record, with the record's place."""
    for line, record in records:
        if not (isinstance(record, Mapping) and is_argilla(record)):
            yield line, record if isinstance(record, RowError) else RowError("it is not a record with `responses`")
            continue
        fields, answers = _record(record)
        question = _question(answers, table)
        if isinstance(question, RowError | NotAVote):
            yield line, question
            continue
        for response in answers[question]:
            yield line, _argilla_row(fields, response, (str(record.get("id")), question), table)


def _record(record: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """A record's fields and metadata, and its responses by question."""
    if isinstance(record.get("fields"), Mapping):
        given = record["responses"] if isinstance(record["responses"], Mapping) else {}
        responses = {name: list(values) for name, values in given.items() if values}
        return {**(record.get("metadata") or {}), **record["fields"]}, responses
    responses = {}
    for name, values in record.items():
        if name.endswith(_RESPONSES) and values:
            people, states = record.get(f"{name}.users") or (), record.get(f"{name}.status") or ()
            responses[name.removesuffix(_RESPONSES)] = [
                {
                    "value": value,
                    "user_id": people[i] if i < len(people) else None,
                    "status": states[i] if i < len(states) else None,
                }
                for i, value in enumerate(values)
            ]
    return {name: value for name, value in record.items() if _RESPONSES not in name}, responses


def _question(answers: Mapping[str, Any], table: Table) -> str | RowError | NotAVote:
    """The name of the question about the winner: from --columns, a usual name, or the only question."""
    if not answers:
        return NotAVote("a record without responses")
    usual = [name for name in (*table.aliases("winner"), "preference") if name in answers]
    if usual or len(answers) == 1:
        return usual[0] if usual else next(iter(answers))
    some = ", ".join(map(repr, sorted(answers)[:4]))
    return RowError(f"it has several questions ({some}): name the one about the winner with --columns winner=NAME")


def _argilla_row(fields: Mapping[str, Any], response: Any, key: tuple[str, str], table: Table) -> Row:
    if not isinstance(response, Mapping):
        return RowError("a response is not an object")
    if (status := response.get("status")) in ("draft", "discarded", "pending"):
        return NotAVote(f"a response that is {'a draft' if status == 'draft' else status}")
    person = response.get("user_id")
    winner = _first_ranked(response.get("value"))
    for side in ("a", "b"):
        if isinstance(winner, str) and winner in fields and winner in COLUMNS[f"answer_{side}"]:
            winner = f"model_{side}"
    return dict(fields) | {
        table.column("winner"): winner,
        table.column("voter"): person,
        table.column("id"): " ".join((*key, str(person))),
    }


def _first_ranked(value: Any) -> Any:
    """The winner of a ranking; a tie where the best rank is shared. Other values as they are."""
    if not isinstance(value, list) or not value:
        return value
    if not all(isinstance(one, Mapping) and "rank" in one for one in value):
        return value[0]
    best = min(one["rank"] for one in value)
    first = [one.get("value") for one in value if one["rank"] == best]
    return first[0] if len(first) == 1 else "tie"
