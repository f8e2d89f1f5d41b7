"""`parley data from-completions`: training data from stored completions and responses, and the feedback on them."""

from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from models.errors import Invalid
from models.quantities import count_noun
from models.terminal import console, open_home, print_json
from train.data.options import AsJson

if TYPE_CHECKING:
    from collections.abc import Iterator

    from train.data.stored_rows import RowKind
    from train.data.stored_selection import RowCounts, SelectedAnswer

_NOUNS = {"conversations": "conversation", "pairs": "preference pair", "prompts": "prompt"}


def from_completions_command(
    out: Annotated[Path, typer.Argument(help="The JSONL file to write.", show_default=False)],
    model: Annotated[str | None, typer.Option(help="Only answers of this model.", show_default=False)] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(help="Only completions with this metadata, as NAME=VALUE. Repeatable.", show_default=False),
    ] = None,
    since: Annotated[
        datetime | None, typer.Option(help="Only completions from this day on (UTC).", formats=["%Y-%m-%d"])
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(help="Only completions before this day (UTC).", formats=["%Y-%m-%d"])
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(help="Only completions with this text in the conversation or the answer.", show_default=False),
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="Only completions that this key stored: its name or id.", show_default=False)
    ] = None,
    min_feedback: Annotated[
        list[str] | None,
        typer.Option(
            help="Only answers whose feedback with this name has at least this mean, as NAME=0.5; true counts as 1, "
            "false as 0. Repeatable.",
            show_default=False,
        ),
    ] = None,
    feedback_from: Annotated[
        Literal["human", "model", "code"] | None,
        typer.Option(help="Count only feedback from people, models or programs.", show_default=False),
    ] = None,
    corrected: Annotated[bool, typer.Option("--corrected", help="Only answers with a correction.")] = False,
    pairs: Annotated[
        bool, typer.Option("--pairs", help="Write preference pairs, in which a correction is preferred to its answer.")
    ] = False,
    prompts: Annotated[
        bool,
        typer.Option("--prompts", help="Write prompts without answers, for `parley campaign create --prompts FILE`."),
    ] = False,
    mask: Annotated[
        bool,
        typer.Option("--mask", help="Replace e-mail addresses, phone and card numbers and keys with placeholders."),
    ] = False,
    near_duplicates: Annotated[
        bool, typer.Option("--drop-near-duplicates", help="Leave out rows that are nearly the same as an earlier one.")
    ] = False,
    limit: Annotated[int | None, typer.Option(help="The maximum number of rows.", min=1, show_default=False)] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write training data from stored chat completions and responses. Corrections replace the answers.

    A response becomes a conversation with the turns that it continues. Duplicate rows are written once. Truncated
    answers without a correction are left out and counted.

      parley data from-completions answers.jsonl --where desk=refunds --min-feedback helpful=0.5 --mask

      parley data from-completions pairs.jsonl --pairs

      parley data from-completions prompts.jsonl --prompts --text refund --drop-near-duplicates --mask
    """
    from models.completions.stored_completions import StoredCompletions
    from models.files.json_lines import refuse_overwrite, write_json_lines
    from train.data.stored_choice import StoredChoice, read_choice
    from train.data.stored_selection import RowCounts, no_rows_message, select_answers

    if pairs and prompts:
        raise Invalid("--pairs and --prompts exclude each other: choose one.", param="pairs")
    refuse_overwrite([out], force)
    kind: RowKind = "pairs" if pairs else "prompts" if prompts else "conversations"
    choice = StoredChoice(
        model, where or (), since.date() if since else None, until.date() if until else None, text, key,
        min_feedback or (), kind, feedback_from, corrected, mask, near_duplicates, limit,
    )  # fmt: skip
    counts = RowCounts()
    with open_home() as home:
        chosen, options = read_choice(home.database, choice)
        selected = select_answers(home.database, chosen, options, counts)
        total = StoredCompletions(home.database).count(chosen)
        written = (each.row for each in _with_progress(selected, total) if each.row is not None)
        first = next(written, None)
        if first is None:
            raise Invalid(no_rows_message(counts), param="where")
        write_json_lines(out, chain([first], written))
    if as_json:
        print_json({**vars(counts), "left_out": dict(counts.left_out), "file": str(out)})
        return
    _show_counts(counts, kind, out, mask)


def _with_progress(selected: "Iterator[SelectedAnswer]", total: int) -> "Iterator[SelectedAnswer]":
    """The same answers, with a progress bar on standard error; none without a terminal."""
    from rich.progress import track

    terminal = console(stderr=True)
    return iter(
        track(selected, "Reading stored completions", total, console=terminal, disable=not terminal.is_terminal)
    )


def _show_counts(counts: "RowCounts", kind: "RowKind", out: Path, mask: bool) -> None:
    rows = count_noun(counts.rows, _NOUNS[kind])
    console().print(f"{rows} from {count_noun(counts.read, 'stored completion')} in {out}", soft_wrap=True)
    if counts.corrected and kind == "conversations":
        console().print(f"Corrections that replace answers: {counts.corrected:,}")
    if mask:
        console().print(f"Personal values that were replaced: {counts.masked:,}")
    for reason, count in counts.left_out.most_common():
        console().print(f"{count:,} left out: {reason}")
