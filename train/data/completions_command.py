"""`parley data from-completions`: training data from stored completions and responses, and the feedback on them."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from models.errors import Invalid
from models.quantities import count_noun
from models.terminal import console, open_home, print_json
from train.data.options import AsJson


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
    min_feedback: Annotated[
        list[str] | None,
        typer.Option(
            help="Only answers whose feedback with this name has at least this mean, as NAME=0.5; true counts as 1, "
            "false as 0. Repeatable.",
            show_default=False,
        ),
    ] = None,
    pairs: Annotated[
        bool, typer.Option("--pairs", help="Write preference pairs, in which a correction is preferred to its answer.")
    ] = False,
    mask: Annotated[
        bool,
        typer.Option("--mask", help="Replace e-mail addresses, phone and card numbers and keys with placeholders."),
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
    """
    from models.completions.chat_forms import ChatForms
    from models.completions.stored_completions import CompletionFilter, StoredCompletions
    from train.data.conversion import refuse_overwrite, write_rows
    from train.data.stored_rows import RowCounts, RowOptions, read_feedback, training_rows

    refuse_overwrite([out], force)
    least = {name: _number(name, value) for name, value in _pairs(min_feedback, "--min-feedback").items()}
    chosen = CompletionFilter(model, _pairs(where, "--where"), _day(since), _day(until))
    options, counts = RowOptions(least, pairs, mask, limit), RowCounts()
    with open_home() as home:
        completions = StoredCompletions(home.database)
        written = training_rows(
            completions.walk(chosen), read_feedback(home.database), options, counts, ChatForms(completions)
        )
        first = next(written, None)
        if first is None:
            reasons = "".join(f" {count} left out: {reason}." for reason, count in counts.left_out.most_common())
            raise Invalid(
                f"None of {counts.read} stored completions can become a row: change the filters, or store completions "
                f"with `store: true`.{reasons}",
                param="where",
            )
        write_rows(out, (row for part in ([first], written) for row in part))
    if as_json:
        print_json({**vars(counts), "left_out": dict(counts.left_out), "file": str(out)})
        return
    rows = count_noun(counts.rows, "preference pair" if pairs else "conversation")
    console().print(f"{rows} from {count_noun(counts.read, 'stored completion')} in {out}", soft_wrap=True)
    if counts.corrected and not pairs:
        console().print(f"Corrections that replace answers: {counts.corrected:,}")
    if mask:
        console().print(f"Personal values that were replaced: {counts.masked:,}")
    for reason, count in counts.left_out.most_common():
        console().print(f"{count:,} left out: {reason}")


def _pairs(given: list[str] | None, option: str) -> dict[str, str]:
    split = [text.partition("=") for text in given or ()]
    wrong = next((name for name, equals, _ in split if not name or not equals), None)
    if wrong is not None:
        raise Invalid(f"{option} {wrong!r} is not valid: use NAME=VALUE.", param=option.lstrip("-"))
    return {name: value for name, _, value in split}


def _number(name: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise Invalid(
            f"--min-feedback {name}={value} is not valid: use a number, such as {name}=0.5.", param="min-feedback"
        ) from None


def _day(day: datetime | None) -> datetime | None:
    return day.replace(tzinfo=UTC) if day is not None else None
