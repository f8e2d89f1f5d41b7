"""`parley rescue ft:…`: a fine-tune brought home before it is switched off. What it does is in `rescuing`.

The room that keeps prompts is another one, so the front door hands in how prompts are stored.
"""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from models.errors import Invalid, ParleyError

if TYPE_CHECKING:
    from models.settings import Settings
    from models.spec import ModelSpec
    from train.clouds.rescue import Compare, Plan
    from train.clouds.rescue_record import Rescue

_SHOWN_PROBLEMS = 8


def rescue_command(compare: "Compare") -> Callable[..., None]:
    """The command, for the front door to hang up. `compare` stores prompts for the blind comparison."""

    def rescue(
        model: Annotated[str, typer.Argument(help="The fine-tune's name at OpenAI: ft:<base>:<org>:<suffix>:<id>.")],
        base: Annotated[
            str | None,
            typer.Option(help="What to train from here: a model of `parley models list`, a folder, a hub id."),
        ] = None,
        name: Annotated[
            str | None, typer.Option(help="What the new model is called; <suffix>-rescued without it.")
        ] = None,
        data: Annotated[
            Path | None, typer.Option(help="The training file on this disk, where OpenAI does not give it any more.")
        ] = None,
        held_out: Annotated[
            float,
            typer.Option(help="Share kept from training for the comparison, where OpenAI has no validation file."),
        ] = 0.15,
        epochs: Annotated[str, typer.Option(help="Times through the data, or auto.")] = "auto",
        rank: Annotated[str, typer.Option(help="LoRA rank, or auto.")] = "auto",
        threads: Annotated[int | None, typer.Option(help="CPU threads; half of the cores without it.", min=1)] = None,
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="Show what would be done, and change nothing.")
        ] = False,
        as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    ) -> None:
        """Bring a fine-tune home from OpenAI before it is switched off, and let people judge, blind, if it is as good.

        It finds the fine-tune and the job that made it, keeps its training file here, trains a local base on it,
        registers the old model as hosted while it still answers, and puts held-out questions on the voting page.
        The key is taken from OPENAI_API_KEY. Interrupted, the same command goes on; repeated, it does nothing twice.

          parley rescue ft:gpt-4o-mini-2024-07-18:acme:support:A1b2C3 --base Qwen/Qwen3-4B --dry-run
        """
        from models.cli import opened
        from models.registry import Registry
        from train.clouds.openai import OpenAICloud
        from train.clouds.rescue import carry_out, check_free, plan_rescue
        from train.hyperparameters import Hyperparameters

        settings, database = opened()
        say = _quiet if as_json else _say
        try:
            cloud = OpenAICloud(settings)
            plan = plan_rescue(
                model, cloud=cloud, settings=settings, database=database, choose=_choose, base=base, name=name,
                data=data, share=held_out,
            )  # fmt: skip
            check_free(plan, Registry(database))
            if not as_json:
                _show(plan, dry_run)
            if dry_run:
                if as_json:
                    typer.echo(json.dumps(_as_json(plan), ensure_ascii=False))
                return
            with _progress(as_json) as progress:
                record = carry_out(
                    plan, cloud=cloud, settings=settings, database=database, compare=compare, say=say,
                    hyperparameters=Hyperparameters(epochs=_number(epochs), rank=_number(rank, int)),
                    threads=threads, progress=progress,
                )  # fmt: skip
        except KeyboardInterrupt:
            raise ParleyError("Stopped. The same command goes on where it was.") from None
        finally:
            database.dispose()
        listed = Registry(database).resolve(str(record.new)).state == "listed"
        if as_json:
            values = {"vote": _vote(settings), "listed": listed}
            typer.echo(json.dumps(record.as_json() | values, ensure_ascii=False))
        else:
            _tell_end(record, settings, listed)

    return rescue


def _show(plan: "Plan", dry_run: bool) -> None:
    """What was found, and what will be done about it."""
    from rich.markup import escape
    from rich.table import Table

    from models.terminal import console
    from train.clouds.display import LEVELS

    out = console()
    if plan.shutdown and plan.shutdown.level != "far":
        out.print(f"[bold {LEVELS[plan.shutdown.level]}]{escape(plan.model)} is {plan.shutdown.text}.[/]")
    for problem in plan.checked.errors[:_SHOWN_PROBLEMS]:
        out.print(f"[red]line {problem.line}[/]: {escape(problem.message)} (left out; {escape(problem.mend)})")
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    made = f"job {plan.job.id} of {plan.job.created:%Y-%m-%d}" if plan.job else "its job is not known"
    table.add_row("old", f"[bold]{escape(plan.model)}[/], {made}, {'answers' if plan.answers else 'is gone'}")
    left_out = f"; left out: {plan.checked.left_out:,}" if plan.checked.left_out else ""
    table.add_row("data", f"{escape(plan.source)}, {len(plan.training):,} bytes{left_out}")
    table.add_row("", f"{len(plan.learnt):,} examples to learn, {len(plan.held):,} held out ({plan.method})")
    table.add_row("new", f"[bold]{escape(plan.name)}[/], trained here from {escape(plan.base)}")
    old = f"{escape(plan.old)}, hosted at OpenAI" if plan.answers else "[yellow]not registered: it does not answer[/]"
    table.add_row("old, here", old)
    table.add_row("compared", f"on {len(plan.prompts):,} held-out questions, by people, blind")
    out.print(table)
    if dry_run:
        out.print("Nothing was changed: this was a dry run.")


def _tell_end(record: "Rescue", settings: "Settings", listed: bool) -> None:
    from models.terminal import console

    out = console()
    out.print("")
    if not listed:
        out.print(f"{record.new} is not listed yet, so nobody votes on it: with `parley up` running, ask", markup=False)
        out.print(f"  parley models check {record.new}", markup=False)
    if record.old and record.asked:
        out.print(
            "With `parley up` running, give this link to the people who know what a good answer is:", markup=False
        )
        out.print(f"  [bold]{_vote(settings)}[/]")
        out.print("The pair of models that was shown least comes first, so old and new meet at once.", markup=False)
        out.print(f"Then ask:     parley verdict {record.new} {record.old}", markup=False)
        if record.old == record.model:  # imported under its own name before, and an id never moves
            out.print(f"And move on:  clients ask for {record.new} instead of {record.model}", markup=False)
        else:
            out.print(f"And move on:  parley models alias {record.model} {record.new}", markup=False)
    else:
        out.print(f"{record.new} is served while `parley up` runs.", markup=False)
    out.print(f"Everything about this rescue is in {record.folder}", markup=False)


def _vote(settings: "Settings") -> str:
    return f"{settings.page_url}/vote/"


def _as_json(plan: "Plan") -> dict[str, Any]:
    return {
        "model": plan.model,
        "job": plan.job.id if plan.job else None,
        "answers": plan.answers,
        "shutdown_date": plan.shutdown.day.isoformat() if plan.shutdown else None,
        "days_left": plan.shutdown.days_left if plan.shutdown else None,
        "source": plan.source,
        "bytes": len(plan.training),
        "method": plan.method,
        "examples": len(plan.learnt),
        "held_out": len(plan.held),
        "left_out": plan.checked.left_out,
        "base": plan.base,
        "name": plan.name,
        "old": plan.old,
        "prompts": len(plan.prompts),
    }


def _choose(bases: "Sequence[ModelSpec]") -> str:
    """A registered base, chosen by a person where there is one to ask."""
    names = ", ".join(spec.id for spec in bases)
    if not sys.stdin.isatty():
        raise Invalid(f"There are several bases to train from: name one with --base ({names}).", param="base")
    for number, spec in enumerate(bases, 1):
        typer.echo(f"  {number}  {spec.id}  {spec.description}")
    chosen = typer.prompt("Train from which base? A number", type=int)
    if not 1 <= chosen <= len(bases):
        raise Invalid(f"{chosen} is none of them.", param="base")
    return bases[chosen - 1].id


def _progress(as_json: bool) -> Any:
    from contextlib import nullcontext

    from models.terminal import console
    from train.run.progress import PlainLines, Terminal, silent

    if as_json:
        return nullcontext(silent)
    return Terminal(console()) if sys.stdout.isatty() else nullcontext(PlainLines())


def _number(text: str, kind: type = float) -> Any:
    if text == "auto":
        return "auto"
    try:
        return kind(text)
    except ValueError as error:
        raise Invalid(f"{text!r} is no number: give one, or auto.") from error


def _say(line: str) -> None:
    from models.terminal import console

    console().print(f"• {line}", markup=False)


def _quiet(line: str) -> None:
    """Says nothing."""
