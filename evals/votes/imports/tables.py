"""A row of a CSV or JSONL as votes: a winner, one-hot winners, chosen and rejected, a column per annotator."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from evals.votes.imports.choices import ONE_HOT, WinnerNames, choice_of, one_hot_choice
from evals.votes.imports.content import decoded, is_conversation, parse_messages, text_of
from evals.votes.imports.options import COLUMNS, ImportOptions
from evals.votes.imports.rows import UNKNOWN_VOTER, ImportedVote, RowError, Texts, parse_time

_ANNOTATOR = re.compile(r"(annotator|rater|judge|voter|labell?er|worker|participant)[ _-]?\d+", re.IGNORECASE)


@dataclass(frozen=True)
class Table:
    """What is the same for all rows of a table: the options, and the name of its file."""

    options: ImportOptions
    filename: str

    @property
    def names(self) -> WinnerNames:
        """The words and the scale for winners."""
        return WinnerNames(self.options.winners, self.options.scale)

    def annotators(self, columns: Sequence[str]) -> list[str]:
        """The columns of annotators: those of the options, else annotator_1, rater2, … where there is no winner."""
        if patterns := self.options.annotators:
            return [column for column in columns if any(fnmatchcase(column, pattern) for pattern in patterns)]
        if self.has("winner", columns) or any(column in ONE_HOT for column in columns):
            return []
        return [column for column in columns if _ANNOTATOR.fullmatch(column)]

    def has(self, name: str, columns: Sequence[str]) -> bool:
        """Whether the table has one of our columns."""
        if name in self.options.columns:
            return self.options.columns[name] in columns
        return any(column in columns for column in COLUMNS[name])

    def cell(self, row: Mapping[str, Any], name: str) -> Any:
        """The value of one of our columns; None where it is missing or empty."""
        for column in (self.options.columns[name],) if name in self.options.columns else COLUMNS[name]:
            if (value := row.get(column)) not in (None, ""):
                return value
        return None


def from_row(row: Mapping[str, Any], line: int, table: Table) -> list[ImportedVote]:
    """The votes of a row: one, or one for each annotator.

    Raises:
        RowError: the row is not a vote.
    """
    annotators = table.annotators(list(row))
    if not annotators and table.cell(row, "winner") is None and table.cell(row, "chosen") is not None:
        return [_from_preference(row, line, table)]
    left, right = (str(table.cell(row, side) or "").strip() for side in ("model_a", "model_b"))
    id_ = table.cell(row, "id")
    prompt, texts, former = _texts(row, table)
    own = not prompt and not texts.messages and table.options.each_its_own_prompt
    if not texts.messages and not prompt and not own:
        raise RowError("it has no prompt: fill it in, or use --each-its-own-prompt")
    vote = ImportedVote(
        line=line,
        left=left,
        right=right,
        choice="tie" if annotators else _choice(row, left, right, table),
        voter=str(table.cell(row, "voter") or UNKNOWN_VOTER).strip(),
        prompt=f"{table.filename} line {line}" if own else prompt,
        messages=texts.messages,
        left_answer=texts.left,
        right_answer=texts.right,
        category=None if table.cell(row, "category") is None else str(table.cell(row, "category")),
        id=None if id_ is None or annotators else str(id_),
        when=parse_time(table.cell(row, "created")),
        again=str(table.cell(row, "again") or "").strip().lower() in ("true", "1", "yes"),
        own_prompt=own,
        former=former,
    )  # fmt: skip
    if not annotators:
        return [vote]
    votes = [
        replace(vote, voter=column, choice=choice_of(row[column], left, right, table.names))
        for column in annotators
        if row[column] not in (None, "")
    ]
    if not votes:
        raise RowError("none of its annotators chose")
    return votes


def _choice(row: Mapping[str, Any], left: str, right: str, table: Table) -> str:
    return one_hot_choice(row) or choice_of(table.cell(row, "winner"), left, right, table.names)


def _texts(row: Mapping[str, Any], table: Table) -> tuple[str, Texts, Texts | None]:
    """The prompt's name or text, the texts, and the texts as release 0a467a6 read them where they differ."""
    prompt, answers = table.cell(row, "prompt"), [table.cell(row, f"answer_{side}") for side in "ab"]
    if has_one_hot(row):
        prompt, answers = _single_turn(decoded(prompt), [decoded(answer) for answer in answers])
    messages = parse_messages(table.cell(row, "messages"))
    if not messages and is_conversation(prompt):
        messages = parse_messages(prompt)
        prompt = None
    name = text_of(prompt).strip()
    asked = ({"role": "user", "content": name},) if name and _is_text(row, table) else ()
    texts = Texts(messages or asked, *map(text_of, answers))
    given = [table.cell(row, name) for name in ("prompt", "answer_a", "answer_b")]
    if not any(isinstance(cell, list | dict) for cell in given):
        return name, texts, None
    was = ["" if cell is None else str(cell) for cell in given]
    before = parse_messages(table.cell(row, "messages")) or ({"role": "user", "content": was[0].strip()},)
    return name, texts, Texts(before, was[1], was[2])


def has_one_hot(row: Mapping[str, Any]) -> bool:
    """Whether the row has one-hot winners; then its prompt and answers are lists of turns."""
    return "winner_model_a" in row and "winner_model_b" in row


def _single_turn(prompt: Any, answers: list[Any]) -> tuple[Any, list[Any]]:
    """The question and the answers from lists of turns.

    Over several turns each model has its own history, so the answers are dropped and the user's turns are the prompt.
    """
    if not isinstance(prompt, list) or is_conversation(prompt):
        return prompt, answers
    if len(prompt) == 1:
        return prompt[0], [answer[0] if isinstance(answer, list) and answer else answer for answer in answers]
    return [{"role": "user", "content": turn} for turn in prompt if turn], ["", ""]


def _from_preference(row: Mapping[str, Any], line: int, table: Table) -> ImportedVote:
    """A chosen and a rejected answer. Which side they were on is unknown: the models are taken in sorted order."""
    sides = []
    messages = parse_messages(table.cell(row, "messages"))
    prompt = table.cell(row, "prompt")
    if not messages and is_conversation(prompt):
        messages, prompt = parse_messages(prompt), None
    name = text_of(prompt).strip()
    for kind in ("chosen", "rejected"):
        answer, model = table.cell(row, kind), table.cell(row, f"{kind}_model")
        if model is None:
            raise RowError(f"it names no model for {kind}: name the column with --columns {kind}_model=YOURS")
        if is_conversation(answer):
            if not messages and not name and len(answer) > 1:
                messages = parse_messages(answer[:-1])
            answer = answer[-1].get("content")
        sides.append((str(model).strip(), text_of(answer)))
    if not messages and not name:
        raise RowError("it has no prompt")
    asked = ({"role": "user", "content": name},) if name and _is_text(row, table) else ()
    (left, left_answer), (right, right_answer) = sorted(sides)
    return ImportedVote(
        line=line,
        left=left,
        right=right,
        choice="left" if left == sides[0][0] else "right",
        voter=str(table.cell(row, "voter") or UNKNOWN_VOTER).strip(),
        prompt=name,
        messages=messages or asked,
        left_answer=left_answer,
        right_answer=right_answer,
        category=None if table.cell(row, "category") is None else str(table.cell(row, "category")),
        id=None if table.cell(row, "id") is None else str(table.cell(row, "id")),
        when=parse_time(table.cell(row, "created")),
    )


def _is_text(row: Mapping[str, Any], table: Table) -> bool:
    """Whether the prompt's column has the prompt's text, and not its id."""
    names = (table.options.columns["prompt"],) if "prompt" in table.options.columns else COLUMNS["prompt"]
    column = next((name for name in names if row.get(name) not in (None, "")), "")
    return bool(column) and not column.endswith("id")
