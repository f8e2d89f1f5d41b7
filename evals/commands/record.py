"""`parley record MODEL` and `parley recordings list`, `show`, `export`. `evals.recordings` does the work.

The provider's prices are defined in another room, so `parley.py` passes in the function that returns them.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evals.commands.flags import JsonFlag
from evals.reports.terminal import SHORT_ID, ProgressBar, echo, folding_table
from models.errors import Invalid, ParleyError
from models.quantities import count_noun
from models.terminal import Home, open_home, print_json

if TYPE_CHECKING:
    from evals.recordings.recorder import RecordingRun
    from evals.recordings.recording_request import RecordingPlan, RecordingRequest
    from evals.recordings.recording_store import Recording
    from models.spec import ModelSpec

FindPrices = Callable[[str], tuple[float, float] | None]
"""A hosted model's name at its provider → US dollars per million input and output tokens; None if unknown."""

_USD = "US dollars per million {} tokens, if the model has no price."

RecordingId = Annotated[str, typer.Argument(help="A recording: its id, the end of its id, or `last`.")]


def record_command(find_prices: FindPrices) -> Callable[..., None]:
    """The command, for `parley.py` to add to the app."""

    def record(
        model: Annotated[str, typer.Argument(help="A served or hosted model: its id or alias.")],
        prompts: Annotated[
            str,
            typer.Option(
                help="`held-out` or `all` (stored prompts); a category or source of stored prompts; a .jsonl or .csv "
                "file; or a task of `parley eval run`, such as `run:ID`."
            ),
        ] = "held-out",
        samples: Annotated[int, typer.Option(help="Answers to each prompt.", min=1)] = 3,
        max_cost: Annotated[
            float | None, typer.Option(help="Do not ask; stop before the cost exceeds this many US dollars.", min=0)
        ] = None,
        yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before spending.")] = False,
        training: Annotated[
            bool, typer.Option("--training", help="The prompts are training data: no verdict uses their answers.")
        ] = False,
        limit: Annotated[int | None, typer.Option(help="Record only the first N prompts.", min=1)] = None,
        temperature: Annotated[
            float | None, typer.Option(help="Sampling temperature; by default the model's own.", min=0, max=2)
        ] = None,
        max_tokens: Annotated[int, typer.Option(help="Maximum length of an answer in tokens.", min=1)] = 512,
        seed: Annotated[
            int | None, typer.Option(help="Sampling seed of the first sample; each further sample adds 1.")
        ] = None,
        concurrency: Annotated[int, typer.Option(help="Requests in flight.", min=1)] = 8,
        usd_per_million_input: Annotated[float | None, typer.Option(help=_USD.format("input"), min=0)] = None,
        usd_per_million_output: Annotated[float | None, typer.Option(help=_USD.format("output"), min=0)] = None,
        as_json: JsonFlag = False,
    ) -> None:
        """Record a model's answers to a set of prompts, so that it can be compared after it is switched off.

        Shows the cost first. A model that costs something is only used after you confirm, or with --yes or --max-cost.
        Needs a running Parley and, if keys are required, a key in PARLEY_PAGE_KEY. The same command continues an
        interrupted recording: no answer is requested twice, and failed samples are requested again.

        Afterwards MODEL@recorded takes part in evaluations, judge runs and votes.

        Examples:

          parley record old-support --prompts held-out --max-cost 5

          parley record old-support --prompts questions.jsonl --samples 5 --temperature 1
        """
        from evals.recordings.costs import Prices
        from evals.recordings.prompt_sets import open_prompt_set
        from evals.recordings.recording_request import RecordingRequest, plan_recording

        if (usd_per_million_input is None) != (usd_per_million_output is None):
            raise Invalid("Give both --usd-per-million-input and --usd-per-million-output.", param="price")
        prices = None
        if usd_per_million_input is not None and usd_per_million_output is not None:
            prices = Prices(usd_per_million_input, usd_per_million_output)
        options = {"temperature": temperature, "max_tokens": max_tokens, "seed": seed}
        with open_home() as home:
            spec = _priced(home, model, prices, find_prices)
            chosen = open_prompt_set(home.database, home.settings.runs_dir, prompts, training=training).first(limit)
            request = RecordingRequest(
                spec=spec,
                prompts=chosen.prompts,
                parameters={name: value for name, value in options.items() if value is not None},
                samples=samples,
                training=training,
                concurrency=concurrency,
                max_usd=max_cost,
            )
            plan = plan_recording(home.database, request)
            if not as_json:
                _show_plan(request, plan, chosen.notes)
            _require_consent(plan, spec, yes=yes or max_cost is not None, as_json=as_json)
            done = _record(home, request, as_json)
        _show_result(done, as_json)
        if done.stopped or done.failed:
            raise typer.Exit(1)

    return record


def recordings_group() -> typer.Typer:
    """The commands under `parley recordings`."""
    group = typer.Typer(help="Recorded answers of models, made by `parley record`.", no_args_is_help=True)
    group.command("list")(list_all)
    group.command("show")(show)
    group.command("export")(export)
    return group


def list_all(
    model: Annotated[str | None, typer.Option(help="Only recordings of this model.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """List the recordings, newest first."""
    from evals.recordings.costs import usd_text
    from evals.recordings.recording_store import list_recordings

    with open_home() as home:
        name = home.registry.aliases().get(model, model) if model else None
        entries = list_recordings(home.database, name)
    if as_json:
        print_json([entry.to_json() for entry in entries])
        return
    if not entries:
        echo("There are no recordings yet: make one with `parley record MODEL --prompts held-out`.")
        return
    table = folding_table("id", "model", "recorded", "failed", "for", "cost", "when")
    for entry in entries:
        when = f"{entry.finished:%Y-%m-%d %H:%M}" if entry.finished else "unfinished: run the same command again"
        table.add_row(
            entry.id[-SHORT_ID:], entry.model, entry.coverage, str(entry.failed or ""),
            "training" if entry.training else "verdicts", usd_text(entry.usd) if entry.usd else "", when,
        )  # fmt: skip
    echo(table)


def show(recording: RecordingId = "last", as_json: JsonFlag = False) -> None:
    """Show a recording: its parameters, cost and hash, whether it is intact, and its failed samples."""
    from evals.recordings.recording_export import recording_rows
    from evals.recordings.recording_store import find_recording, is_intact

    with open_home() as home:
        entry = find_recording(home.database, recording)
        intact = is_intact(home.database, entry.id) if entry.finished else None
        failures = [row for row in recording_rows(home.database, entry) if row["error"] is not None]
    if as_json:
        failed = [{"prompt_id": row["prompt_id"], "sample": row["sample"], "error": row["error"]} for row in failures]
        print_json(entry.to_json() | {"intact": intact, "failures": failed})
        return
    _show_recording(entry, intact)
    if failures:
        table = folding_table("prompt", "sample", "error")
        for row in failures:
            table.add_row(row["prompt_id"], str(row["sample"]), row["error"])
        echo(table)


def export(
    file: Annotated[Path, typer.Argument(help="The JSONL file to write.")],
    recording: Annotated[str, typer.Option(help="The recording: its id, the end of its id, or `last`.")] = "last",
) -> None:
    """Write a recording to a JSONL file: its parameters and hash, then a line for each sample."""
    from evals.recordings.recording_export import write_recording
    from evals.recordings.recording_store import find_recording

    with open_home() as home:
        entry = find_recording(home.database, recording)
        count = write_recording(home.database, entry, file)
    echo(f"{count_noun(count, 'sample')} of {entry.model} written to {file}.")


def _priced(home: Home, model: str, prices: "object | None", find_prices: FindPrices) -> "ModelSpec":
    """The model with prices: its own, those of the flags, or the provider's."""
    from evals.recordings.costs import Prices, with_prices
    from evals.served_models import resolve_models
    from models.spec import is_recorded_name

    if is_recorded_name(model):
        raise Invalid(f"{model} is itself a recording: name the live model.", param="model")
    (spec,) = resolve_models(home.settings, home.database, model)
    if prices is None and spec.upstream is not None and (known := find_prices(spec.upstream.model)):
        prices = Prices(*known)
    assert prices is None or isinstance(prices, Prices)
    return with_prices(spec, prices)


def _show_plan(request: "RecordingRequest", plan: "RecordingPlan", notes: "tuple[str, ...]") -> None:
    echo(
        f"{request.spec.id}: {count_noun(len(request.prompts), 'prompt')}, "
        f"{count_noun(request.samples, 'sample')} each."
    )
    if plan.stored:
        echo(f"{count_noun(plan.stored, 'answer is', 'answers are')} already recorded and not requested again.")
    echo(plan.left.text)
    if request.max_usd is not None:
        echo(f"It stops at ${request.max_usd:g}, including what earlier runs cost.")
    for note in notes:
        echo(f"Note: {note}")


def _require_consent(plan: "RecordingPlan", spec: "ModelSpec", *, yes: bool, as_json: bool) -> None:
    """Asks for confirmation before anything is spent.

    Raises:
        Invalid: there is no terminal to ask on. ParleyError: the answer is no.
    """
    if yes or not plan.left.requests or (plan.left.usd == 0.0 and not _maybe_billed(spec)):
        return
    if as_json or not sys.stdin.isatty():
        raise Invalid(f"{plan.left.text} Nothing was recorded: use --yes, or --max-cost USD.", param="yes")
    if not typer.confirm("Record now?"):
        raise ParleyError("Nothing was recorded.")


def _maybe_billed(spec: "ModelSpec") -> bool:
    """Whether the model is hosted and its price is unknown."""
    from models.usage import has_price

    return not has_price(spec)


def _record(home: Home, request: "RecordingRequest", as_json: bool) -> "RecordingRun":
    from evals.recordings.recorder import record_served

    try:
        with ProgressBar(not as_json) as bar:
            return record_served(home.settings, home.database, request, bar.show_answers, bar.show_line)
    except KeyboardInterrupt:
        raise ParleyError("Stopped. Run the same command again to continue.") from None


def _show_result(done: "RecordingRun", as_json: bool) -> None:
    if as_json:
        values = {"asked": done.asked, "stopped": done.stopped, "error": done.first_error}
        print_json(done.recording.to_json() | values)
        return
    _show_recording(done.recording, None)
    if done.failed:
        echo(f"{count_noun(done.failed, 'sample')} failed: run the same command again. {done.first_error}")
    if done.stopped:
        echo(f"Stopped: {done.stopped.rstrip('.')}. Run the same command again to continue.")
    elif not done.recording.training:
        echo(f"Use it as {done.recording.model}@recorded in evaluations, judge runs and votes.")


def _show_recording(entry: "Recording", intact: bool | None) -> None:
    from rich.table import Table

    from evals.recordings.costs import usd_text

    facts = {
        "recording": entry.id,
        "model": entry.model,
        "recorded": entry.coverage,
        "failed": entry.failed or None,
        "parameters": ", ".join(f"{name} {value}" for name, value in entry.parameters.items()),
        "cost": usd_text(entry.usd) if entry.usd else None,
        "for": "training: no verdict uses it" if entry.training else None,
        "finished": f"{entry.finished:%Y-%m-%d %H:%M}" if entry.finished else "no",
        "sha256": entry.sha256,
        "intact": {True: "yes", False: "NO: answers were changed after the recording"}.get(intact),  # type: ignore[arg-type] -- None gives None
    }
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for title, value in facts.items():
        if value is not None:
            table.add_row(title, str(value))
    echo(table)
