"""`parley rescue`: an OpenAI account fetched, or one fine-tune recorded and retrained before it is switched off.

Prompts and recordings belong to another room, so `parley.py` passes in the functions that make them.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from models.command_options import expand_options
from models.errors import Invalid, ParleyError
from models.quantities import count_noun
from models.terminal import console, open_home, print_json
from train.clouds.account.options import AccountOptions
from train.clouds.rescue_options import RescueOptions
from train.display import open_progress

INVENTORY = "inventory"  # in place of a fine-tune's name

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

    @expand_options
    def rescue(
        model: Annotated[
            str | None,
            typer.Argument(help="The name of the fine-tune at OpenAI: ft:<base>:<org>:<suffix>:<id>; or inventory."),
        ] = None,
        *,
        one: RescueOptions,
        account: AccountOptions,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and change nothing.")] = False,
        as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    ) -> None:
        """Fetch an OpenAI account, or retrain one fine-tune here before it is switched off.

        `parley rescue --all` fetches all fine-tuning jobs with their events and checkpoints, files, stored completions,
        evals and batches into PARLEY_HOME. It only reads at OpenAI, and continues after an interruption. `parley rescue
        inventory` lists the fine-tunes with the days that are left and what is fetched, also as a page (--html).

        `parley rescue ft:…` finds one fine-tune and its job, stores the training file, registers the old model as
        hosted while it still answers, puts held-out questions on the voting page, offers to record the old model's
        answers to them, and trains a local base. Recording needs a running `parley up`, and starts after a yes or with
        --record-cost. Run the same command again to continue an interrupted rescue.

          parley rescue --all

          parley rescue inventory --html inventory.html

          parley rescue ft:gpt-4o-mini-2024-07-18:acme:support:A1b2C3 --base Qwen/Qwen3-4B --dry-run

        The key is read from OPENAI_API_KEY. Exit status 3: everything else is done, but objects of the account were
        refused or failed, or --verify found damage.
        """
        from train.clouds.recording_offer import RecordingChoice

        if account.whole or model == INVENTORY:
            _rescue_account(model, one, account, dry_run, as_json)
            return
        if model is None:
            raise Invalid(
                "Name a fine-tune (ft:…), or use --all or inventory. See `parley rescue --help`.", param="model"
            )
        if account != AccountOptions():
            raise Invalid("The options for the whole account need --all or inventory.", param="all")
        ask = sys.stdin.isatty() and not as_json
        consent = _confirm_recording if ask else lambda cost: False
        choice = RecordingChoice(one.record_cost, one.record_training, consent)
        _rescue(one.request(model), _Seams(store_prompts, record_answers, choice), dry_run, as_json)

    return rescue


def _rescue_account(
    model: str | None, one: RescueOptions, account: AccountOptions, dry_run: bool, as_json: bool
) -> None:
    from train.clouds.account.command import rescue_account, show_inventory

    if account.whole and model is not None:
        raise Invalid(f"--all is for the whole account: leave out {model!r}.", param="model")
    if one != RescueOptions():
        raise Invalid("The options for one fine-tune need its name, ft:…, and not --all or inventory.", param="model")
    if sum((dry_run, account.offline, account.verify)) > 1:
        raise Invalid("Use only one of --dry-run, --offline and --verify.", param="all")
    if account.whole:
        rescue_account(account, dry_run, as_json)
        return
    if dry_run or account.verify or account.register:
        raise Invalid("--dry-run, --verify and --register need --all.", param="all")
    show_inventory(account, as_json)


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
