"""`parley rescue ft:…`: records a fine-tune of OpenAI and retrains it here before it is switched off.

Prompts and recordings belong to another room, so `parley.py` passes in the functions that make them.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from models.errors import Invalid, ParleyError
from models.quantities import count_noun
from models.terminal import console, open_home, parse_number, print_json
from train.display import open_progress

if TYPE_CHECKING:
    from models.settings.settings import Settings
    from models.spec import ModelSpec
    from train.clouds.recording_offer import RecordAnswers, RecordingChoice
    from train.clouds.rescue import StorePrompts
    from train.clouds.rescue_plan import RescuePlan, RescueRequest
    from train.clouds.rescue_record import Rescue


def rescue_command(store_prompts: "StorePrompts", record_answers: "RecordAnswers") -> Callable[..., None]:
    """The command, for `parley.py` to add to the app.

    `store_prompts` stores prompts for the blind comparison, `record_answers` records the old model's answers to them.
    """

    def rescue(
        model: Annotated[
            str, typer.Argument(help="The name of the fine-tune at OpenAI: ft:<base>:<org>:<suffix>:<id>.")
        ],
        base: Annotated[
            str | None,
            typer.Option(help="The base to train from: a model of `parley models list`, a folder, or a hub id."),
        ] = None,
        name: Annotated[str | None, typer.Option(help="The name of the new model. Default: <suffix>-rescued.")] = None,
        data: Annotated[
            Path | None, typer.Option(help="The training file on this disk, if OpenAI has deleted it.")
        ] = None,
        held_out: Annotated[
            float, typer.Option(help="Share held out for the comparison, if OpenAI has no validation file.")
        ] = 0.15,
        epochs: Annotated[str, typer.Option(help="Passes over the data, or auto.")] = "auto",
        rank: Annotated[str, typer.Option(help="LoRA rank, or auto.")] = "auto",
        threads: Annotated[int | None, typer.Option(help="CPU threads. Default: half of the cores.", min=1)] = None,
        record_cost: Annotated[
            float | None,
            typer.Option(help="First record the old model's answers, for at most this many US dollars.", min=0),
        ] = None,
        record_training: Annotated[
            bool, typer.Option("--record-training", help="Record its answers to the training questions too.")
        ] = False,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and change nothing.")] = False,
        as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    ) -> None:
        """Retrain a fine-tune of OpenAI here before it is switched off, and compare both in a blind vote.

        It finds the fine-tune and its job, stores the training file, registers the old model as hosted while it still
        answers, puts held-out questions on the voting page, offers to record the old model's answers to them, and
        trains a local base. The key is read from OPENAI_API_KEY. Recording needs a running `parley up`, and starts
        after a yes or with --record-cost. Run the same command again to continue an interrupted rescue.

          parley rescue ft:gpt-4o-mini-2024-07-18:acme:support:A1b2C3 --base Qwen/Qwen3-4B --dry-run
        """
        from train.clouds.recording_offer import RecordingChoice
        from train.clouds.rescue_plan import RescueRequest
        from train.hyperparameters import Hyperparameters

        hyperparameters = Hyperparameters(
            epochs=parse_number(epochs, "epochs", float),
            rank=parse_number(rank, "rank", int),
        )
        request = RescueRequest(
            model, base=base, name=name, data=data, held_out=held_out, hyperparameters=hyperparameters, threads=threads
        )
        ask = sys.stdin.isatty() and not as_json
        choice = RecordingChoice(record_cost, record_training, _confirm_recording if ask else lambda cost: False)
        seams = _Seams(store_prompts, record_answers, choice)
        _rescue(request, seams, dry_run, as_json)

    return rescue


@dataclass(frozen=True)
class _Seams:
    """What another room does for a rescue, and whether answers are recorded."""

    store_prompts: "StorePrompts"
    record_answers: "RecordAnswers"
    choice: "RecordingChoice"


def _rescue(request: "RescueRequest", seams: _Seams, dry_run: bool, as_json: bool) -> None:
    from train.clouds.openai import OpenAICloud
    from train.clouds.recording_offer import record_old
    from train.clouds.rescue import RescueHooks, carry_out
    from train.clouds.rescue_plan import check_name_free, plan_rescue

    with open_home() as home:
        try:
            cloud = OpenAICloud(home.settings)
            plan = plan_rescue(request, cloud, home.settings, home.database, _choose_base)
            check_name_free(plan, home.registry)
            if not as_json:
                _show_plan(plan, dry_run)
            elif dry_run:
                print_json(plan.to_json())
            if dry_run:
                return
            with open_progress(as_json) as progress:
                hooks = RescueHooks(
                    seams.store_prompts,
                    (lambda line: None) if as_json else _print_step,
                    progress,
                    partial(record_old, plan, home.settings, home.database, seams.choice, seams.record_answers),
                )
                record = carry_out(plan, cloud, home.settings, home.database, hooks)
        except KeyboardInterrupt:
            raise ParleyError("Stopped. Run the same command again to continue.") from None
        listed = home.registry.resolve(str(record.new)).state == "listed"
    if as_json:
        values = {"vote": _voting_page(home.settings), "listed": listed}
        print_json(record.to_json() | values)
    else:
        _show_result(record, home.settings, listed)


def _show_plan(plan: "RescuePlan", dry_run: bool) -> None:
    """What was found, and what will be done."""
    from rich.markup import escape
    from rich.table import Table

    from train.clouds.display import LEVELS, show_errors

    out = console()
    if plan.shutdown and plan.shutdown.level != "far":
        out.print(f"[bold {LEVELS[plan.shutdown.level]}]{escape(plan.model)} is {plan.shutdown.text}.[/]")
    show_errors(plan.checked.problems)
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    job = f"job {plan.job.id} of {plan.job.created:%Y-%m-%d}" if plan.job else "its job is unknown"
    status = "still answers" if plan.answers else "does not answer any more"
    table.add_row("old model", f"[bold]{escape(plan.model)}[/], {escape(job)}, {status}")
    left_out = f"; left out: {plan.checked.left_out:,}" if plan.checked.left_out else ""
    table.add_row("data", f"{escape(plan.source)}, {len(plan.training):,} bytes{left_out}")
    table.add_row(
        "", f"{count_noun(len(plan.learnt), 'example')} to train on, {len(plan.held):,} held out ({plan.method})"
    )
    table.add_row("new model", f"[bold]{escape(plan.name)}[/], trained here from {escape(plan.base)}")
    old = f"{escape(plan.old)}, hosted at OpenAI" if plan.answers else "[yellow]not registered: it does not answer[/]"
    table.add_row("old model here", old)
    table.add_row("comparison", f"a blind vote on {count_noun(len(plan.prompts), 'held-out question')}")
    out.print(table)
    if dry_run:
        out.print("Nothing was changed: this was a dry run.")


def _show_result(record: "Rescue", settings: "Settings", listed: bool) -> None:
    """The new model, and the commands for the vote and the switch."""
    out = console()
    out.print("")
    if not listed:
        text = f"{record.new} is not listed yet, so it cannot be voted on. With `parley up` running, check it with"
        out.print(text, markup=False)
        out.print(f"  parley models check {record.new}", markup=False)
    if record.old and record.asked:
        text = "With `parley up` running, send this link to people who can recognise a good answer:"
        out.print(text, markup=False)
        out.print(f"  {_voting_page(settings)}", style="bold", markup=False)
        out.print("The pair of models with the fewest votes comes first.", markup=False)
        out.print(f"Read the verdict:   parley verdict {record.new} {record.old}", markup=False)
        if record.old == record.model:  # registered under its own name before, which cannot become an alias
            out.print(f"Switch clients:     let them request {record.new} instead of {record.model}", markup=False)
        else:
            out.print(f"Switch clients:     parley models alias {record.model} {record.new}", markup=False)
    else:
        out.print(f"{record.new} is served while `parley up` runs.", markup=False)
    out.print(f"The folder of this rescue is {record.folder}", markup=False)


def _voting_page(settings: "Settings") -> str:
    return f"{settings.page_url}/vote/"


def _choose_base(bases: "Sequence[ModelSpec]") -> str:
    """A registered base, chosen by a person; without a terminal --base is required."""
    names = ", ".join(spec.id for spec in bases)
    if not sys.stdin.isatty():
        raise Invalid(f"There are several bases to train from. Choose one with --base ({names}).", param="base")
    for number, spec in enumerate(bases, 1):
        typer.echo(f"  {number}  {spec.id}  {spec.description}")
    number = typer.prompt("Number of the base to train from", type=int)
    if not 1 <= number <= len(bases):
        raise Invalid(f"There is no base number {number}.", param="base")
    return bases[number - 1].id


def _confirm_recording(cost: str) -> bool:
    """Asks whether to record, with the cost."""
    console().print(f"Record the old model's answers first, so that it can be compared later? {cost}", markup=False)
    return typer.confirm("Record now?")


def _print_step(line: str) -> None:
    console().print(f"• {line}", markup=False)
