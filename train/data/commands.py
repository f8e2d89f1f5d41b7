"""`parley data convert | split | advise`. Each loads its work when it runs."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from models.command_options import expand_options
from models.errors import Invalid
from models.terminal import console, print_json
from train.data.options import AsJson, DataArgument, Force, PerTurn, ReadingOptions

if TYPE_CHECKING:
    from train.data.advice import Answers


@expand_options
def convert_command(
    data: DataArgument,
    out: Annotated[Path, typer.Argument(help="The JSONL file to write.", show_default=False)],
    reading: ReadingOptions,
    per_turn: PerTurn = False,
    metadata: Annotated[
        bool, typer.Option("--metadata", help="Keep the other fields of each row, under `metadata`.")
    ] = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Convert data of any known format to OpenAI's chat JSONL; preference pairs become its preference rows.

    parley data convert sharegpt.json train.jsonl

    parley data convert faq.parquet train.jsonl --prompt-column question --response-column answer --metadata
    """
    from train.data.conversion import convert
    from train.data.display import show_conversion

    options = {"per_turn": per_turn, "metadata": metadata, "force": force}
    converted = convert(data, out, reading.columns, format=reading.format, **options)
    if as_json:
        print_json(converted.to_json())
    else:
        show_conversion(console(), converted)


@expand_options
def split_command(
    data: DataArgument,
    reading: ReadingOptions,
    share: Annotated[float, typer.Option(help="The share to hold out, usually 0.1 to 0.2.")] = 0.1,
    by: Annotated[
        str | None,
        typer.Option(help="Stratify by this field, such as a category: the same share of each value."),
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same split.")] = 0,
    train: Annotated[
        Path | None, typer.Option(help="The training file to write. Default: NAME.train.jsonl.", show_default=False)
    ] = None,
    validation: Annotated[
        Path | None,
        typer.Option(help="The validation file to write. Default: NAME.validation.jsonl.", show_default=False),
    ] = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Split data into training and validation files, by seed and, with --by, stratified by a field.

    Copies, near copies and examples with the same question stay in one file. Lines with errors are reported and left
    out.

      parley data split tickets.jsonl --share 0.15 --by category
    """
    from models.files.json_lines import refuse_overwrite
    from train.data.conversion import split_files
    from train.data.display import show_split

    name = Path(data.partition(":")[0]).name
    stem = name.rpartition(".")[0] or name
    paths = (train or Path(f"{stem}.train.jsonl"), validation or Path(f"{stem}.validation.jsonl"))
    refuse_overwrite(paths, force)
    written = split_files(
        data, *paths, share=share, seed=seed, by=by, columns=reading.columns, format=reading.format
    )  # fmt: skip
    if as_json:
        print_json(written.to_json())
    else:
        show_split(console(), written)


@expand_options
def advise_command(
    data: DataArgument,
    reading: ReadingOptions,
    knowledge_changes: Annotated[
        str | None, typer.Option(help="How often the facts change: never, monthly, weekly or daily.")
    ] = None,
    tried: Annotated[
        str | None, typer.Option(help="The most you have tried so far: nothing, prompt, few-shot or retrieval.")
    ] = None,
    documents: Annotated[
        bool | None, typer.Option("--documents/--no-documents", help="Whether documents hold the facts.")
    ] = None,
    latency_ms: Annotated[int | None, typer.Option(help="Longest acceptable wait for the first token.", min=1)] = None,
    requests_per_day: Annotated[int | None, typer.Option(help="Expected requests per day.", min=0)] = None,
    at_home: Annotated[
        bool | None, typer.Option("--at-home/--anywhere", help="Whether data must stay on your own machines.")
    ] = None,
    citations: Annotated[
        bool | None, typer.Option("--citations/--no-citations", help="Whether answers must name their source.")
    ] = None,
    ask: Annotated[
        bool, typer.Option("--ask/--no-ask", help="In a terminal, ask the questions that no flag answers.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Advise what to start with: a prompt, retrieval or fine-tuning.

    The advice depends on the number of examples and on a few answers, given as flags or asked in a terminal.

      parley data advise tickets.jsonl --tried prompt --knowledge-changes weekly --documents
    """
    from train.data.advice import QUESTIONS, Answers, advise
    from train.data.display import show_advice

    choices = {question.answer: question.choices for question in QUESTIONS}
    answers = Answers(
        tried=_one_of(tried, "tried", choices["tried"]),
        citations=citations,
        knowledge_changes=_one_of(knowledge_changes, "knowledge-changes", choices["knowledge_changes"]),
        documents=documents,
        latency_ms=latency_ms,
        requests_per_day=requests_per_day,
        at_home=at_home,
    )
    checked = reading.load(data)
    if ask and not as_json and sys.stdin.isatty() and sys.stdout.isatty():
        answers = _ask(answers)
    advice = advise(len(checked.examples) + len(checked.preferences), answers)
    if as_json:
        print_json(advice.to_json())
    else:
        show_advice(console(), advice)


def _ask(answers: "Answers") -> "Answers":
    """The answers, with those that a person gives to the open questions. An empty line leaves a question open."""
    from dataclasses import replace

    from train.data.advice import QUESTIONS

    given: dict[str, Any] = {}
    for question in QUESTIONS:
        if not question.choices or getattr(answers, question.answer) is not None:
            continue
        options = ", ".join(question.choices)
        while True:
            answer = typer.prompt(f"{question.text} ({options})", default="", show_default=False).strip()
            if not answer or answer in question.choices:
                break
            typer.echo(f"Enter one of {options}, or press Enter to skip the question.")
        given[question.answer] = {"": None, "yes": True, "no": False}.get(answer, answer)
    return replace(answers, **given)


def _one_of(value: str | None, flag: str, choices: tuple[str, ...]) -> str | None:
    if value is not None and value not in choices:
        raise Invalid(f"--{flag} is {value!r}: use {', '.join(choices)}.", param=flag)
    return value
