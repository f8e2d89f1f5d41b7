"""`parley feedback export`: the feedback on answers for other tools."""

from itertools import chain
from pathlib import Path
from typing import Annotated, Literal

import typer

from models.errors import Invalid
from models.quantities import count_noun
from models.terminal import console, open_home, print_json


def add_feedback_commands(app: typer.Typer) -> None:
    """Adds `parley feedback` to the `parley` app."""
    feedback = typer.Typer(
        help="Feedback on answers: thumbs, corrections, and what clients send.", no_args_is_help=True
    )
    feedback.command("export")(feedback_export)
    app.add_typer(feedback, name="feedback")


def feedback_export(
    out: Annotated[Path, typer.Argument(help="The JSONL file to write.", show_default=False)],
    format: Annotated[  # noqa: A002 -- as the flag
        Literal["langfuse", "otel"],
        typer.Option(
            help="langfuse: a score a line, as its API takes it. otel: an OTLP log event gen_ai.evaluation.result a "
            "line, as the Collector's otlpjsonfile receiver reads it."
        ),
    ] = "langfuse",
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Export all feedback, with corrections and comments, for Langfuse or OpenTelemetry.

    parley feedback export scores.jsonl

    parley feedback export events.jsonl --format otel
    """
    from models.completions.feedback_export import export_rows
    from models.files.json_lines import refuse_overwrite, write_json_lines

    refuse_overwrite([out], force)
    with open_home() as home:
        exported = export_rows(home.database, format)
        first = next(exported, None)
        if first is None:
            raise Invalid("No feedback is stored yet: rate an answer, or send some to /v1/feedback.", param="out")
        rows = write_json_lines(out, chain([first], exported))
    if as_json:
        print_json({"rows": rows, "format": format, "file": str(out)})
    else:
        console().print(f"{count_noun(rows, 'score' if format == 'langfuse' else 'event')} in {out}", soft_wrap=True)
