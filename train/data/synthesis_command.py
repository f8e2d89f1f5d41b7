"""`parley data synthesise | advise`: each loads its work when it runs."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from models.errors import Invalid
from train.data.commands import AsJson, File, Format, PromptColumn, ResponseColumn, System, SystemColumn
from train.planning.commands import checked_data, console

if TYPE_CHECKING:
    from train.data.advising import Answers


def synthesise_command(
    seeds: Annotated[str, typer.Argument(help="The examples to begin from, in any format.", show_default=False)],
    out: Annotated[Path, typer.Argument(help="The JSONL file to write, or to go on with.", show_default=False)],
    model: Annotated[str, typer.Option(help="Who writes: any model that the gateway serves.", show_default=False)],
    number: Annotated[int, typer.Option(help="How many examples the file shall hold.", min=1)] = 100,
    base_url: Annotated[
        str | None, typer.Option(help="Another OpenAI-compatible address than this Parley's.", show_default=False)
    ] = None,
    credential: Annotated[
        str | None, typer.Option(help="The NAME of the variable that holds that address's key.", show_default=False)
    ] = None,
    instructions: Annotated[str, typer.Option(help="What else the writer should heed.", show_default=False)] = "",
    seed: Annotated[int, typer.Option(help="Same seed, same prompts.")] = 0,
    shots: Annotated[int, typer.Option(help="Seeds shown in a prompt.", min=1)] = 4,
    each: Annotated[int, typer.Option(help="New examples asked for in a prompt.", min=1)] = 2,
    concurrency: Annotated[int, typer.Option(help="Requests at once.", min=1)] = 8,
    patience: Annotated[int, typer.Option(help="Requests without anything new after which it stops.", min=1)] = 20,
    temperature: Annotated[float, typer.Option(help="Of the writer.", min=0, max=2)] = 1.0,
    format: Format = "auto",  # noqa: A002 -- the flag's name
    prompt_column: PromptColumn = "prompt",
    response_column: ResponseColumn = "response",
    system_column: SystemColumn = None,
    system: System = None,
    as_json: AsJson = False,
) -> None:
    """Let a served model write more examples like yours; copies are thrown away, the rest is marked as synthetic.

    A request that fails is counted and stops nothing. Stopped or killed, the same command goes on where it was.

      parley data synthesise good.jsonl more.jsonl --model gpt-4.1 --number 300
    """
    import asyncio

    from models.completer import GatewayCompleter, gateway_completer
    from models.settings import load_settings
    from train.data.synthesis import Synthesis, synthesise
    from train.planning.display import show_synthesis

    checked = checked_data(seeds, format, (prompt_column, response_column, system_column, system))
    settings = load_settings()
    if base_url:
        key = settings.credential(credential) if credential else None
        if credential and not key:
            raise Invalid(f"--credential names the variable {credential}, which is not set.", param="credential")
        completer = GatewayCompleter(base_url, model, key)
    else:
        completer = gateway_completer(settings, model)

    async def whole(progress: Any) -> Synthesis:
        try:
            return await synthesise(
                checked, completer, model=model, number=number, out=out, seed=seed, shots=shots, each=each,
                concurrency=concurrency, patience=patience, instructions=instructions, temperature=temperature,
                progress=progress,
            )  # fmt: skip
        finally:
            await completer.close()

    with _bar(number, as_json) as progress:
        found = asyncio.run(whole(progress))
    if as_json:
        typer.echo(json.dumps(found.as_json(), ensure_ascii=False))
    else:
        show_synthesis(console(), found)
    if found.ended == "failing":
        raise typer.Exit(1)


def advise_command(
    data: File,
    knowledge_changes: Annotated[
        str | None, typer.Option(help="How often what is true changes: never, monthly, weekly or daily.")
    ] = None,
    tried: Annotated[
        str | None, typer.Option(help="The furthest you have tried: nothing, prompt, few-shot or retrieval.")
    ] = None,
    documents: Annotated[
        bool | None, typer.Option("--documents/--no-documents", help="There are texts that hold the facts.")
    ] = None,
    latency_ms: Annotated[int | None, typer.Option(help="The longest wait for the first word.", min=1)] = None,
    requests_per_day: Annotated[int | None, typer.Option(help="How often it will be asked.", min=0)] = None,
    at_home: Annotated[
        bool | None, typer.Option("--at-home/--anywhere", help="Data must not leave your own machines.")
    ] = None,
    citations: Annotated[
        bool | None, typer.Option("--citations/--no-citations", help="Answers must name their source.")
    ] = None,
    ask: Annotated[
        bool, typer.Option("--ask/--no-ask", help="In a terminal, ask for what the flags do not say.")
    ] = True,
    format: Format = "auto",  # noqa: A002 -- the flag's name
    prompt_column: PromptColumn = "prompt",
    response_column: ResponseColumn = "response",
    system_column: SystemColumn = None,
    system: System = None,
    as_json: AsJson = False,
) -> None:
    """Prompting, few-shot, retrieval or fine-tuning: what to begin with, why, and what would change the advice.

    It looks at the data and at a few answers: flags, or questions where a terminal is there.

      parley data advise tickets.jsonl --tried prompt --knowledge-changes weekly --documents
    """
    from train.data.advising import advise, find_facts
    from train.planning.display import show_advice

    given = {
        "knowledge_changes": _one_of(knowledge_changes, "knowledge-changes", ("never", "monthly", "weekly", "daily")),
        "tried": _one_of(tried, "tried", ("nothing", "prompt", "few-shot", "retrieval")),
        "documents": documents,
        "latency_ms": latency_ms,
        "requests_per_day": requests_per_day,
        "at_home": at_home,
        "citations": citations,
    }
    facts = find_facts(checked_data(data, format, (prompt_column, response_column, system_column, system)))
    asking = ask and not as_json and sys.stdin.isatty() and sys.stdout.isatty()
    advice = advise(facts, _answers(given, asking))
    if as_json:
        typer.echo(json.dumps(advice.as_json(), ensure_ascii=False))
    else:
        show_advice(console(), advice)


def _answers(given: dict[str, Any], asking: bool) -> "Answers":
    """The flags' answers, and in a terminal those to what they leave open; an empty line leaves a question open."""
    from train.data.advising import Answers

    questions = {
        "knowledge_changes": ("How often does what is true change?", ("never", "monthly", "weekly", "daily")),
        "tried": ("What is the furthest you have tried?", ("nothing", "prompt", "few-shot", "retrieval")),
        "documents": ("Are there documents that hold the facts?", ("yes", "no")),
        "citations": ("Must answers name their source?", ("yes", "no")),
        "at_home": ("Must data stay on your own machines?", ("yes", "no")),
    }
    for name, (question, choices) in questions.items():
        if not asking or given[name] is not None:
            continue
        while (said := typer.prompt(f"{question} ({', '.join(choices)})", default="", show_default=False).strip()) and (
            said not in choices
        ):
            typer.echo(f"Use one of {', '.join(choices)}, or nothing to leave it open.")
        given[name] = {"": None, "yes": True, "no": False}.get(said, said)
    return Answers(**given)


@contextmanager
def _bar(number: int, as_json: bool) -> Iterator[Any]:
    """A progress bar on standard error; nothing where it would be in a program's way."""
    if as_json or not sys.stderr.isatty():
        yield lambda counted: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[thrown]}"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task("examples", total=number, thrown="")

        def told(counted: Any) -> None:
            thrown = counted.copies + counted.near_copies + counted.unfit + counted.unreadable
            said = f"{thrown:,} thrown away" + (f", {counted.failed:,} failed" if counted.failed else "")
            bar.update(task, completed=counted.made, thrown=said)

        yield told


def _one_of(value: str | None, flag: str, choices: tuple[str, ...]) -> str | None:
    if value is not None and value not in choices:
        raise Invalid(f"--{flag} is {value!r}: use {', '.join(choices)}.", param=flag)
    return value
