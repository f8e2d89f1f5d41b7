"""`parley generate`: flags, progress bar and summary. `serve.bulk.generation` does the work."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from models.errors import Invalid, ParleyError
from models.quantities import count_noun
from models.terminal import print_json

if TYPE_CHECKING:
    from serve.bulk.generation import Generated, Progress
    from serve.bulk.journal import Journal

_MIN_BAR_COLUMNS = 90  # columns from which there is space for a bar beside the numbers


def generate_command(
    prompts: Annotated[Path, typer.Argument(help="JSONL, CSV or TSV with a prompt or a conversation in each row.")],
    model: Annotated[str | None, typer.Option(help="The model to use. Without it, each row must name one.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="The file to write. Default: PROMPTS.answers.jsonl.", show_default=False)
    ] = None,
    concurrency: Annotated[int, typer.Option(help="Requests in flight.", min=1, max=4096)] = 64,
    max_tokens: Annotated[int | None, typer.Option(help="The maximum length of an answer in tokens.", min=1)] = None,
    temperature: Annotated[
        float | None, typer.Option(help="0 always takes the most likely token.", min=0, max=2)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Sampling seed, if the server supports it.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help=("Continue a run that was interrupted or had errors."))
    ] = False,
    prompt_column: Annotated[str, typer.Option(help="The column or key that holds the prompt.")] = "prompt",
    timeout_s: Annotated[float, typer.Option(help="Seconds that one answer may take.", min=1)] = 600.0,
    base_url: Annotated[
        str | None, typer.Option(help="Another OpenAI-compatible address instead of this Parley's.", show_default=False)
    ] = None,
    credential: Annotated[
        str | None,
        typer.Option(help="Name of the environment variable that holds that address's key.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and no progress bar.")] = False,
) -> None:
    """Generate an answer for every prompt in a file, many at once, in the file's order.

    Needs a running Parley and, if keys are required, one in PARLEY_PAGE_KEY. A row has `prompt` or `messages`, or is a
    line of OpenAI's Batch API (`custom_id`, `url`, `body`) and gets a Batch API response. A row's own options take
    precedence over the flags, except --model. Answers are stored as they arrive: after a kill or Ctrl-C, the same
    command with --resume continues. A row that fails gets its error in the output.

    Examples:

      parley generate questions.jsonl --model support-v2 --out answers.jsonl --max-tokens 200

      parley generate tickets.csv --model support-v2 --prompt-column text --resume
    """
    from models.chat.completer import StartPatience, open_completer
    from models.settings.settings import load_settings
    from serve.bulk.journal import Journal, digest_of
    from serve.bulk.rows import read_rows

    options = {"max_tokens": max_tokens, "temperature": temperature, "seed": seed}
    given = {name: value for name, value in options.items() if value is not None}
    rows = read_rows(prompts, model=model, options=given, prompt_column=prompt_column)
    out = out or prompts.with_name(f"{prompts.stem}.answers.jsonl")
    if out.resolve() == prompts.resolve():
        raise Invalid("--out is the file of prompts itself. Choose another.", param="out")
    if base_url is None and credential is not None:
        raise Invalid("--credential needs --base-url. The key for this Parley is PARLEY_PAGE_KEY.", param="credential")
    name = model or str(rows[0].body["model"])
    settings = load_settings()
    patience = StartPatience(settings.longest_start_s)
    completer = open_completer(
        settings, name, base_url, credential, timeout_s=timeout_s, retries=0, many=True, patience=patience
    )
    digest = digest_of(asdict(row) for row in rows)
    with Journal(out, digest, resume=resume) as journal, _ProgressBar(not as_json) as bar:

        async def run() -> "Generated":
            from serve.bulk.generation import generate

            try:
                if model and base_url is None:
                    await completer.state()  # a wrong name is reported once, not for every row
                return await generate(completer.post, rows, journal, concurrency=concurrency, progress=bar.update)
            finally:
                await completer.close()

        with _explained_stop(journal, len(rows), bar):
            result = asyncio.run(run())
    if as_json:
        print_json(asdict(result) | {"out": str(out)})
    else:
        _print_summary(bar, result, out)
    if result.failed:
        raise typer.Exit(1)


@contextmanager
def _explained_stop(journal: "Journal", rows: int, bar: "_ProgressBar") -> Iterator[None]:
    """Says how to continue a run that an error or Ctrl-C stops. Ctrl-C exits with status 130."""
    try:
        yield
    except (KeyboardInterrupt, ParleyError) as stop:
        if answered := len(journal.stored) - len(journal.failed):
            counts = f"{answered:,} of {rows:,} answered"
            bar.print_line(f"Stopped with {counts}. Run the same command with --resume to continue.")
        if isinstance(stop, ParleyError):
            raise
        raise typer.Exit(130) from None


def _print_summary(bar: "_ProgressBar", result: "Generated", out: Path) -> None:
    rate = f", {result.tokens / result.seconds:,.0f} tokens/s" if result.tokens else ""
    earlier = f"; {result.before:,} answered before" if result.before else ""
    answers = count_noun(result.rows - result.failed, "answer")
    bar.print_line(f"{answers} in {out}, {result.seconds:.1f} s{rate}{earlier}.")
    if result.failed:
        rows = count_noun(result.failed, "row has", "rows have")
        bar.print_line(f"{rows} an error instead. Run it again with --resume.")


class _ProgressBar:
    """A progress bar on standard error with tokens per second and the time left; nothing if it is off."""

    def __init__(self, on: bool) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Rich

        from models.terminal import console

        self._console = console(stderr=True, quiet=not on)
        wide = (BarColumn(bar_width=None),) if self._console.width >= _MIN_BAR_COLUMNS else ()
        self._bar = Rich(
            *wide,
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=self._console,
        )
        self._task = self._bar.add_task("", total=None, figures="")

    def __enter__(self) -> "_ProgressBar":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def update(self, progress: "Progress") -> None:
        """Updates the bar."""
        figures = f"{progress.tokens_per_s:,.0f} tokens/s"
        if progress.failed:
            figures += f", {progress.failed:,} failed"
        self._bar.update(self._task, completed=progress.done, total=progress.total, figures=figures)

    def print_line(self, line: str) -> None:
        """Prints a line below the bar."""
        self._bar.stop()
        self._console.print(line, markup=False, soft_wrap=True)
