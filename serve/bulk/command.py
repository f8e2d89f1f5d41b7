"""`parley generate`: the command's flags, its bar and its last line. The work is in `serve.bulk.generation`."""

import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from models.errors import Invalid, ParleyError

if TYPE_CHECKING:
    from models.completer import GatewayCompleter
    from models.settings import Settings
    from serve.bulk.generation import Generated, Progress

_WIDE = 90  # columns from which there is room for a bar beside the figures


def generate_command(
    prompts: Annotated[Path, typer.Argument(help="JSONL, CSV or TSV: a prompt or a conversation in each row.")],
    model: Annotated[str | None, typer.Option(help="Who answers; without it each row must name its own.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="The file to write; PROMPTS.answers.jsonl without it.", show_default=False)
    ] = None,
    concurrency: Annotated[int, typer.Option(help="Requests in flight.", min=1, max=4096)] = 64,
    max_tokens: Annotated[int | None, typer.Option(help="The longest answer, in tokens.", min=1)] = None,
    temperature: Annotated[
        float | None, typer.Option(help="0 takes the likeliest word each time.", min=0, max=2)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="For a temperature above 0, where the server knows seeds.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that did not end, or had errors.")] = False,
    prompt_column: Annotated[str, typer.Option(help="The column or key that holds the prompt.")] = "prompt",
    timeout_s: Annotated[float, typer.Option(help="Seconds that one answer may take.", min=1)] = 600.0,
    base_url: Annotated[
        str | None, typer.Option(help="Another OpenAI-compatible address than this Parley's.", show_default=False)
    ] = None,
    credential: Annotated[
        str | None, typer.Option(help="The NAME of the variable that holds that address's key.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and no bar.")] = False,
) -> None:
    """Ask a model every prompt of a file, many at once, and write the answers in the file's order.

    Needs a running Parley, and where keys are on, one in PARLEY_PAGE_KEY. A row has `prompt`, or `messages`, or is a
    line of OpenAI's Batch API (`custom_id`, `url`, `body`) and is then answered in that shape; what it says itself
    comes before these flags, but for --model. Each answer is on disk as it comes: after a kill or Ctrl-C the same
    command with --resume asks the rest. A row that fails is a row with its error.

    Examples:

      parley generate questions.jsonl --model support-v2 --out answers.jsonl --max-tokens 200

      parley generate tickets.csv --model support-v2 --prompt-column text --resume
    """
    from models.settings import load_settings
    from serve.bulk.journal import Journal, digest_of
    from serve.bulk.rows import read_rows

    options = {"max_tokens": max_tokens, "temperature": temperature, "seed": seed}
    given = {name: value for name, value in options.items() if value is not None}
    rows = read_rows(prompts, model=model, options=given, prompt_column=prompt_column)
    out = out or prompts.with_name(f"{prompts.stem}.answers.jsonl")
    if out.resolve() == prompts.resolve():
        raise Invalid("--out is the file of prompts itself: choose another.", param="out")
    completer = _completer(load_settings(), model or str(rows[0].body["model"]), timeout_s, base_url, credential)
    with Journal(out, digest_of(asdict(row) for row in rows), resume=resume) as journal, _Bar(not as_json) as bar:

        async def whole() -> "Generated":
            from serve.bulk.generation import generate

            try:
                if model and base_url is None:
                    await completer.state()  # a name that is wrong is one line, and not as many as there are rows
                return await generate(completer.post, rows, journal, concurrency=concurrency, progress=bar.tell)
            finally:
                await completer.close()

        try:
            made = asyncio.run(whole())
        except (KeyboardInterrupt, ParleyError) as stop:
            answered = len(journal.kept) - len(journal.failed)
            if answered:
                bar.say(f"Stopped with {answered:,} of {len(rows):,} answered: the same command with --resume goes on.")
            if isinstance(stop, ParleyError):
                raise
            raise typer.Exit(130) from None
    if as_json:
        typer.echo(json.dumps(asdict(made) | {"out": str(out)}))
    else:
        rate = f", {made.tokens / made.seconds:,.0f} tokens a second" if made.tokens else ""
        earlier = f"; {made.before:,} were there before" if made.before else ""
        bar.say(f"{made.rows - made.failed:,} answers in {out}, {made.seconds:.1f} s{rate}{earlier}.")
        if made.failed:
            bar.say(f"{made.failed:,} rows have an error instead; --resume asks those again.")
    if made.failed:
        raise typer.Exit(1)


def _completer(
    settings: "Settings", model: str, timeout_s: float, base_url: str | None, credential: str | None
) -> "GatewayCompleter":
    from models.completer import GatewayCompleter, gateway_completer

    if base_url is None:
        if credential is not None:
            raise Invalid(
                "--credential goes with --base-url; this Parley's key is PARLEY_PAGE_KEY.", param="credential"
            )
        return gateway_completer(settings, model, timeout_s, retries=0, many=True)
    key = settings.credential(credential) if credential else None
    if credential and not key:
        raise Invalid(f"--credential names the variable {credential}, which is not set.", param="credential")
    return GatewayCompleter(base_url, model, key, timeout_s, retries=0, many=True)


class _Bar:
    """A live bar on standard error with tokens a second and the time left; nothing at all where it is off."""

    def __init__(self, on: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Rich

        self._console = Console(stderr=True, highlight=False, emoji=False, quiet=not on)
        wide = (BarColumn(bar_width=None),) if self._console.width >= _WIDE else ()
        self._bar = Rich(
            *wide,
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=self._console,
        )
        self._task = self._bar.add_task("", total=None, figures="")

    def __enter__(self) -> "_Bar":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def tell(self, progress: "Progress") -> None:
        """Moves the bar."""
        figures = f"{progress.tokens_per_s:,.0f} tokens/s"
        if progress.failed:
            figures += f", {progress.failed:,} failed"
        self._bar.update(self._task, completed=progress.done, total=progress.total, figures=figures)

    def say(self, line: str) -> None:
        """A line under the bar."""
        self._bar.stop()
        self._console.print(line, markup=False, soft_wrap=True)
