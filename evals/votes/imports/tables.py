"""A row of a CSV or JSONL as votes: a winner, one-hot winners, chosen and rejected, a column per annotator."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

from evals.votes.imports.choices import ONE_HOT, WinnerNames, choice_of, one_hot_choice
from evals.votes.imports.content import decoded, is_conversation, parse_messages, text_of
from evals.votes.imports.options import COLUMNS, ImportOptions
from evals.votes.imports.rows import UNKNOWN_VOTER, ImportedVote, NotAVote, RowError, Texts, parse_time, require_names

_ANNOTATOR = re.compile(r"(annotator|rater|judge|voter|labell?er|worker|participant)[ _-]?\d+", re.IGNORECASE)


# Columns in which a program's word for "nothing" means an empty cell; in a text it may be meant.
_NAMES = {"model_a", "model_b", "chosen_model", "rejected_model", "winner", "voter", "id", "category", "created"}
_MISSING = {"nan", "NaN", "NAN", "null", "NULL", "None", "<NA>", "NaT"}


@dataclass(frozen=True)
class Table:
    """What is the same for all rows of a table: the options, and the name of its file."""

    options: ImportOptions
    filename: str
    _plans: dict[tuple[str, ...], tuple[dict[str, list[str]], list[str]]] = field(default_factory=dict)

    @property
    def names(self) -> WinnerNames:
        """The words and the scale for winners."""
        return WinnerNames(self.options.winners, self.options.scale)

    def annotators(self, columns: Sequence[str]) -> list[str]:
        """The columns of annotators: those of the options, else annotator_1, rater2, … if there is no winner."""
        if patterns := self.options.annotators:
            return [column for column in columns if any(fnmatchcase(column, pattern) for pattern in patterns)]
        if self.has("winner", columns) or any(column in ONE_HOT for column in columns):
            return []
        return [column for column in columns if _ANNOTATOR.fullmatch(column)]

    def has(self, name: str, columns: Sequence[str]) -> bool:
        """Whether the table has one of our columns."""
        return any(column in columns for column in self.aliases(name))

    def cells(self, row: Mapping[str, Any]) -> "Cells":
        """The values of our columns."""
        columns = tuple(row)
        if columns not in self._plans:
            plan = {name: [column for column in self.aliases(name) if column in row] for name in COLUMNS}
            self._plans[columns] = plan, self.annotators(columns)
        return Cells(row, *self._plans[columns])

    def column(self, name: str) -> str:
        """The name under which one of our columns is looked for first."""
        return self.aliases(name)[0]

    def aliases(self, name: str) -> tuple[str, ...]:
        """The names under which one of our columns is looked for."""
        return (self.options.columns[name],) if name in self.options.columns else COLUMNS[name]


@dataclass(frozen=True)
class Cells:
    """A row's values under our names of columns.

    `plan`: our name → the row's columns for it. `annotators`: the columns with one person's winner each.
    """

    row: Mapping[str, Any]
    plan: Mapping[str, Sequence[str]]
    annotators: Sequence[str]

    def __getitem__(self, name: str) -> Any:
        """The value of one of our columns; None if it is missing or empty."""
        for column in self.plan[name]:
            if (value := self.row[column]) is None or value == "":
                continue
            if name in _NAMES and (value != value or (isinstance(value, str) and value in _MISSING)):
                continue
            return value
        return None

    def text(self, name: str) -> str | None:
        """The value as a text."""
        return None if (value := self[name]) is None else str(value)

    def column(self, name: str) -> str:
        """The column that has the value; empty without one."""
        return next((column for column in self.plan[name] if self.row[column] not in (None, "")), "")


def from_row(row: Mapping[str, Any], line: int, table: Table) -> list[ImportedVote]:
    """The votes of a row: one, or one for each annotator.

    Raises:
        RowError: the row is not a vote.
    """
    cells = table.cells(row)
    if "games" in row and "model" in row:
        raise RowError(
            "it is a verdict of an Arena-Hard judge: write a row with model_a, model_b and winner for each game, and "
            "use `parley judge import`"
        )
    for name in ("model_a", "model_b", "voter", "id", "category"):
        if isinstance(cells[name], list | dict):
            raise RowError(f"its {cells.column(name)} is a list or an object, not a text")
    annotators = cells.annotators
    if cells["winner"] is None and row.get("skip_reason"):  # as Parley exports it
        raise NotAVote("a pair that was skipped")
    if not annotators and cells["winner"] is None and cells["chosen"] is not None:
        return [_from_preference(cells, line)]
    left, right = (str(cells[side] or "").strip() for side in ("model_a", "model_b"))
    require_names(left, right)
    prompt, texts, former = _texts(cells)
    own = not prompt and not texts.messages and table.options.each_its_own_prompt
    if not texts.messages and not prompt and not own:
        raise RowError("the prompt is missing: fill it in, or use --each-its-own-prompt")
    vote = ImportedVote(
        line=line,
        left=left,
        right=right,
        choice="tie" if annotators else one_hot_choice(row) or choice_of(cells["winner"], left, right, table.names),
        voter=str(cells["voter"] or UNKNOWN_VOTER).strip(),
        prompt=f"{table.filename} line {line}" if own else prompt,
        messages=texts.messages,
        left_answer=texts.left,
        right_answer=texts.right,
        category=cells.text("category"),
        id=None if annotators else cells.text("id"),
        when=parse_time(cells["created"]),
        again=str(cells["again"] or "").strip().lower() in ("true", "1", "yes"),
        own_prompt=own,
        former=former,
    )
    if not annotators:
        return [vote]
    votes = [
        replace(vote, voter=column, choice=choice_of(row[column], left, right, table.names))
        for column in annotators
        if row[column] not in (None, "")
    ]
    if not votes:
        raise RowError("no annotator chose an answer")
    return votes


def _texts(cells: Cells) -> tuple[str, Texts, Texts | None]:
    """The prompt's name or text, the texts, and the texts as release 0a467a6 read them where they differ."""
    given = [cells[name] for name in ("prompt", "answer_a", "answer_b")]
    prompt, *answers = given
    if "winner_model_a" in cells.row:  # as in LMSYS's sets, where these cells are lists of turns
        prompt, answers = _single_turn(decoded(prompt), [decoded(answer) for answer in answers])
    messages = parse_messages(cells["messages"])
    if not messages and is_conversation(prompt):
        messages, prompt = parse_messages(prompt), None
    name = text_of(prompt).strip()
    asked = ({"role": "user", "content": name},) if name and _is_text(cells) else ()
    texts = Texts(messages or asked, *map(text_of, answers))
    if not any(isinstance(cell, list | dict) for cell in given):
        return name, texts, None
    was = ["" if cell is None else str(cell) for cell in given]
    before = parse_messages(cells["messages"]) or ({"role": "user", "content": was[0].strip()},)
    return name, texts, Texts(before, was[1], was[2])


def _single_turn(prompt: Any, answers: list[Any]) -> tuple[Any, list[Any]]:
    """The question and the answers from lists of turns.

    Over several turns each model has its own history, so the answers are dropped and the user's turns are the prompt.
    """
    if not isinstance(prompt, list) or is_conversation(prompt):
        return prompt, answers
    if len(prompt) == 1:
        return prompt[0], [answer[0] if isinstance(answer, list) and answer else answer for answer in answers]
    return [{"role": "user", "content": turn} for turn in prompt if turn], ["", ""]


def _from_preference(cells: Cells, line: int) -> ImportedVote:
    """A chosen and a rejected answer. Which side they were on is unknown: the models are taken in sorted order."""
    messages, prompt = parse_messages(cells["messages"]), cells["prompt"]
    if not messages and is_conversation(prompt):
        messages, prompt = parse_messages(prompt), None
    name = text_of(prompt).strip()
    sides = []
    for kind in ("chosen", "rejected"):
        answer, model = cells[kind], cells[f"{kind}_model"]
        if model is None:
            raise RowError(f"it names no model for {kind}: name the column with --columns {kind}_model=YOURS")
        if is_conversation(answer):
            if not messages and not name and len(answer) > 1:
                messages = parse_messages(answer[:-1])
            answer = answer[-1].get("content")
        sides.append((str(model).strip(), text_of(answer)))
    if not messages and not name:
        raise RowError("it has no prompt")
    asked = ({"role": "user", "content": name},) if name and _is_text(cells) else ()
    (left, left_answer), (right, right_answer) = sorted(sides)
    return ImportedVote(
        line=line,
        left=left,
        right=right,
        choice="left" if left == sides[0][0] else "right",
        voter=str(cells["voter"] or UNKNOWN_VOTER).strip(),
        prompt=name,
        messages=messages or asked,
        left_answer=left_answer,
        right_answer=right_answer,
        category=cells.text("category"),
        id=cells.text("id"),
        when=parse_time(cells["created"]),
    )


def _is_text(cells: Cells) -> bool:
    """Whether the prompt's column has the prompt's text, and not its id."""
    column = cells.column("prompt")
    return bool(column) and not column.endswith("id")
