"""`parley data synthesise`: more examples like yours, written by a served model."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from models.command_options import expand_options
from models.terminal import console, print_json
from train.data.options import AsJson, ReadingOptions

if TYPE_CHECKING:
    from train.data.synthesis import Counted


@expand_options
def synthesise_command(
    seeds: Annotated[str, typer.Argument(help="The examples to start from, in any format.", show_default=False)],
    out: Annotated[Path, typer.Argument(help="The JSONL file to write or to continue.", show_default=False)],
    model: Annotated[str, typer.Option(help="The model that writes: any that the gateway serves.", show_default=False)],
    reading: ReadingOptions,
    number: Annotated[int, typer.Option(help="Examples in the finished file.", min=1)] = 100,
    base_url: Annotated[
        str | None,
        typer.Option(help="Another OpenAI-compatible server instead of this gateway.", show_default=False),
    ] = None,
    credential: Annotated[
        str | None,
        typer.Option(help="Name of the environment variable that holds that server's key.", show_default=False),
    ] = None,
    instructions: Annotated[str, typer.Option(help="More instructions for the model.", show_default=False)] = "",
    seed: Annotated[int, typer.Option(help="The same seed gives the same prompts.")] = 0,
    shots: Annotated[int, typer.Option(help="Examples shown in each prompt.", min=1)] = 4,
    each: Annotated[int, typer.Option(help="New examples requested in each prompt.", min=1)] = 2,
    concurrency: Annotated[int, typer.Option(help="Requests at the same time.", min=1)] = 8,
    patience: Annotated[int, typer.Option(help="Stop after this many requests without a new example.", min=1)] = 20,
    temperature: Annotated[float, typer.Option(help="Sampling temperature of the model.", min=0, max=2)] = 1.0,
    as_json: AsJson = False,
) -> None:
    """Write more examples like yours with a served model. Copies are discarded; the rest is marked as synthetic.

    A failed request is counted and does not stop the run. Run the same command again to continue an interrupted one.

      parley data synthesise good.jsonl more.jsonl --model gpt-4.1 --number 300
    """
    import asyncio

    from models.chat.completer import StartPatience, open_completer
    from models.settings.settings import load_settings
    from train.data.display import show_synthesis
    from train.data.synthesis import Synthesis, SynthesisOptions, synthesise

    checked = reading.load(seeds)
    settings = load_settings()
    # Another server's address may be wrong: that is an error at once.
    start = StartPatience(settings.longest_start_s, reconnect_s=0.0 if base_url else 30.0)
    completer = open_completer(settings, model, base_url, credential, patience=start)
    options = SynthesisOptions(
        model=model, number=number, seed=seed, shots=shots, each=each, concurrency=concurrency,
        patience=patience, instructions=instructions, temperature=temperature,
    )  # fmt: skip

    async def run(progress: Any) -> Synthesis:
        try:
            return await synthesise(checked, completer, out, options, progress=progress)
        finally:
            await completer.close()

    with _progress_bar(number, as_json) as progress:
        synthesis = asyncio.run(run(progress))
    if as_json:
        print_json(synthesis.to_json())
    else:
        show_synthesis(console(), synthesis)
    if synthesis.ended == "failing":
        raise typer.Exit(1)


@contextmanager
def _progress_bar(number: int, as_json: bool) -> Iterator[Any]:
    """A progress bar on standard error; none with --json or without a terminal."""
    if as_json or not sys.stderr.isatty():
        yield lambda counted: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[discarded]}"))
    with Progress(*columns, TimeRemainingColumn(), console=console(stderr=True)) as bar:
        task = bar.add_task("examples", total=number, discarded="")

        def update(counted: "Counted") -> None:
            discarded = counted.copies + counted.near_copies + counted.unfit + counted.unreadable
            text = f"{discarded:,} discarded" + (f", {counted.failed:,} failed" if counted.failed else "")
            bar.update(task, completed=counted.made, discarded=text)

        yield update
