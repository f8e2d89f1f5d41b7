"""This room's commands: `parley train`, `merge` and the group `data`. Light; torch is loaded when one runs."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from models.errors import Invalid
from train.clouds.commands import cloud_commands, train_on_cloud
from train.data.options import Format, PerTurn, PromptColumn, ResponseColumn, System, SystemColumn
from train.data_cli import data_commands
from train.model_commands import add_model_commands
from train.showing import console, problems_shown, show_result

if TYPE_CHECKING:
    from train.progress import Progress
    from train.runs import TrainingResult


_WHAT, _HOW, _MACHINE = "What learns", "How", "On this machine"  # panels of --help


def add_commands(app: typer.Typer) -> None:
    """Hangs `train`, `merge`, the group `data`, and what is about training on the group `models`, on the app."""
    app.command("train")(train_command)
    app.command("merge")(merge_command)
    app.add_typer(data_commands())
    app.add_typer(cloud_commands())
    add_model_commands(app)


def train_command(
    data: Annotated[
        Path | None,
        typer.Argument(
            help="Conversations: OpenAI chat .jsonl, or .csv / .tsv with a question and an answer column. "
            "For --method dpo: pairs, as OpenAI's preference rows."
        ),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(help="What to start from: a model of `parley models list`, a folder, or a hub id (owner/name)."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="What clients will send as `model`. A name is one version, for good.")
    ] = None,
    kind: Annotated[
        str, typer.Option(help="adapter: shares its base's engine. merged: an engine of its own, the fast path.")
    ] = "adapter",
    method: Annotated[
        str,
        typer.Option(
            help="sft: learn what the assistant says. dpo: learn, from pairs, to prefer one answer to another.",
            rich_help_panel=_WHAT,
        ),
    ] = "sft",
    tune: Annotated[
        str,
        typer.Option(
            help="lora: a small adapter. qlora: the same over a base held in 4 bits, for less memory. full: every "
            "weight, published as a model of its own.",
            rich_help_panel=_WHAT,
        ),
    ] = "lora",
    rank: Annotated[
        str, typer.Option(help="How much an adapter can hold, or auto; over 64 is merged.", rich_help_panel=_WHAT)
    ] = "auto",
    rslora: Annotated[
        bool, typer.Option("--rslora", help="Scale by alpha / √rank: for high ranks.", rich_help_panel=_WHAT)
    ] = False,
    dora: Annotated[
        bool,
        typer.Option(
            "--dora", help="Learn each weight's length beside its direction: slower, and merged.", rich_help_panel=_WHAT
        ),
    ] = False,
    beta: Annotated[
        str,
        typer.Option(help="dpo: how dearly leaving the base is paid for, or auto (0.1).", rich_help_panel=_WHAT),
    ] = "auto",
    epochs: Annotated[str, typer.Option(help="Times through the data, or auto.", rich_help_panel=_HOW)] = "auto",
    lr: Annotated[str, typer.Option("--lr", help="Learning rate, or auto.", rich_help_panel=_HOW)] = "auto",
    batch_size: Annotated[
        str,
        typer.Option(
            help="Conversations (or pairs) a step, or auto. What memory cannot hold at once is worked on in parts.",
            rich_help_panel=_HOW,
        ),
    ] = "auto",
    max_length: Annotated[
        str,
        typer.Option(
            help="Tokens a conversation may have, or auto; longer ones are left out and listed.", rich_help_panel=_HOW
        ),
    ] = "auto",
    schedule: Annotated[
        str, typer.Option(help="cosine, linear or constant, after a warm-up.", rich_help_panel=_HOW)
    ] = "cosine",
    early_stopping: Annotated[
        int | None,
        typer.Option(
            help="Stop after so many validations in a row without a better loss, and go back to the best.",
            min=1,
            rich_help_panel=_HOW,
        ),
    ] = None,
    validate_every: Annotated[
        str,
        typer.Option(help="Steps between validations, or auto: each epoch, or four in one.", rich_help_panel=_HOW),
    ] = "auto",
    seed: Annotated[
        int, typer.Option(help="Same seed, same split, same result (on one machine).", rich_help_panel=_HOW)
    ] = 0,
    packing: Annotated[
        str,
        typer.Option(
            help="packed: rows end to end, none seeing another, no padding. length: padded, with rows of like length. "
            "auto: what is faster here.",
            rich_help_panel=_MACHINE,
        ),
    ] = "auto",
    precision: Annotated[
        str, typer.Option(help="bf16, fp16, fp32, or auto: what the device does well.", rich_help_panel=_MACHINE)
    ] = "auto",
    checkpointing: Annotated[
        bool | None,
        typer.Option(
            "--checkpointing/--no-checkpointing",
            help="Compute activations again instead of keeping them: less memory, a third slower. Without it: by size.",
            rich_help_panel=_MACHINE,
        ),
    ] = None,
    gpus: Annotated[
        int,
        typer.Option(
            help="Processes that share each batch, one for each GPU (accelerate).", min=1, rich_help_panel=_MACHINE
        ),
    ] = 1,
    threads: Annotated[
        int | None,
        typer.Option(help="CPU threads; half of the cores without it, 2 at least.", min=1, rich_help_panel=_MACHINE),
    ] = None,
    validation: Annotated[
        float, typer.Option(help="Share held out to measure the loss; 0 for none.", rich_help_panel="Data")
    ] = 0.1,
    prompt_column: PromptColumn = "prompt",
    response_column: ResponseColumn = "response",
    system_column: SystemColumn = None,
    system: System = None,
    format: Format = "auto",  # noqa: A002 -- the flag's name
    per_turn: PerTurn = False,
    tracker: Annotated[
        list[str] | None,
        typer.Option(
            help="wandb, tensorboard or trackio; may be given several times. None without it.",
            rich_help_panel="Trackers",
        ),
    ] = None,
    save_steps: Annotated[
        str,
        typer.Option(
            help="Steps between checkpoints; auto: about 3 minutes. Each epoch's end has one anyway.",
            rich_help_panel="Interrupted",
        ),
    ] = "auto",
    resume: Annotated[
        str | None,
        typer.Option(
            help="Go on with a run that was interrupted (its id or folder), as it was asked for.",
            rich_help_panel="Interrupted",
        ),
    ] = None,
    on: Annotated[
        str,
        typer.Option("--on", help="Where: local, openai or together. A cloud's result is served as a hosted model."),
    ] = "local",
    lr_multiplier: Annotated[
        float | None, typer.Option(help="OpenAI: its learning_rate_multiplier.", rich_help_panel="Clouds", min=0.0001)
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Buy at the price that is shown, unasked.", rich_help_panel="Clouds")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Fine-tune a chat model on your conversations, the assistant's words only, and serve the result.

    The data is checked first: each problem is listed with its line and what mends it; lines with errors are left
    out, the others are used. Every «auto» is a rule, shown at the end.

      parley train tickets.jsonl --base demo-base --name support-v1

      parley train faq.csv --base Qwen/Qwen3-0.6B --name faq-v1 --kind merged --prompt-column question
      --response-column answer --system "You answer for the shop."

    A line of chat JSONL: {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}

    Less memory: --tune qlora. Preferences (votes, say) after that, at a gentle rate:

      parley train pairs.jsonl --method dpo --base support-v1 --name support-v2

    A line of pairs: {"input": {"messages": […]}, "preferred_output": […], "non_preferred_output": […]}

    A run that was killed goes on from its last checkpoint, and ends as it would have ended:

      parley train --resume 01JQ4Z8E3K5V7W9XABCDEFGHJK

    In a cloud the same data and numbers are checked, priced and agreed to before anything is sent:

      parley train tickets.jsonl --base gpt-4o-mini-2024-07-18 --name support-v1 --on openai
    """
    if resume is not None:
        _resume(resume, [data, base, name], as_json)
        return
    for value, flag in ((data, "DATA"), (base, "--base"), (name, "--name")):
        if value is None:
            raise Invalid(f"{flag} is missing. See `parley train --help`.", param=flag.strip("-").lower())
    from train.data.readers import Columns
    from train.hyperparameters import Hyperparameters

    if kind not in ("adapter", "merged"):
        raise Invalid(f"--kind is {kind!r}: use adapter or merged.", param="kind")
    hyperparameters = Hyperparameters(
        epochs=_number(epochs, "epochs", float),
        rank=_number(rank, "rank", int),
        learning_rate=_number(lr, "lr", float),
        batch_size=_number(batch_size, "batch-size", int),
        max_length=_number(max_length, "max-length", int),
        schedule=schedule,  # type: ignore[arg-type]  # its own check names the three that there are
        seed=seed,
        tune=tune,  # type: ignore[arg-type]  # likewise, and so are the three below
        rslora=rslora,
        dora=dora,
        beta=_number(beta, "beta", float),
        packing=packing,  # type: ignore[arg-type]  # its own check too
        precision=precision,  # type: ignore[arg-type]  # its own check too
        checkpointing="auto" if checkpointing is None else checkpointing,
        early_stopping=early_stopping,
        validate_every=_number(validate_every, "validate-every", int),
    )
    columns = Columns(prompt_column, response_column, system_column, system)
    if on != "local":
        for given, flag in (
            (kind != "adapter", "--kind"),
            (threads, "--threads"),
            (save_steps != "auto", "--save-steps"),
            (tracker, "--tracker"),
            (gpus > 1, "--gpus"),
            (format != "auto", "--format"),
            (per_turn, "--per-turn"),
        ):
            if given:
                raise Invalid(f"{flag} is for training here: leave it out with --on {on}.", param=flag.strip("-"))
        with problems_shown(as_json):
            train_on_cloud(
                on, data, base=str(base), name=str(name), method=method, hyperparameters=hyperparameters,
                multiplier=lr_multiplier, validation=validation, columns=columns, yes=yes, as_json=as_json,
            )  # fmt: skip
        return
    if lr_multiplier is not None:
        raise Invalid("--lr-multiplier is OpenAI's: use --lr, or --on openai.", param="lr-multiplier")
    with _opened() as (settings, registry), problems_shown(as_json):
        from train.training import train

        with _progress(as_json) as progress:
            result = train(
                data,  # type: ignore[arg-type]  # checked above, as base is
                base=base,  # type: ignore[arg-type]  # likewise
                name=name,
                method=method,  # type: ignore[arg-type]  # its own check names the two that there are
                kind=kind,
                settings=settings,
                registry=registry,
                hyperparameters=hyperparameters,
                validation=validation,
                columns=columns,
                format=format,
                per_turn=per_turn,
                progress=progress,
                trackers=tracker or (),
                threads=threads,
                gpus=gpus,
                save_steps=_number(save_steps, "save-steps", int),
            )
        _tell_result(result, settings.gateway_url, as_json)


def _resume(run: str, others: list[Any], as_json: bool) -> None:
    if any(other is not None for other in others):
        raise Invalid("--resume takes everything from the run: leave DATA, --base and --name out.", param="resume")
    with _opened() as (settings, registry), problems_shown(as_json):
        from train.resuming import resume

        with _progress(as_json) as progress:
            result = resume(run, settings=settings, registry=registry, progress=progress)
        _tell_result(result, settings.gateway_url, as_json)


def _tell_result(result: "TrainingResult", address: str, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(result.as_json(), ensure_ascii=False))
    else:
        show_result(result, address)


def merge_command(
    adapter: Annotated[str, typer.Argument(help="An adapter of `parley models list`.")],
    name: Annotated[str, typer.Option(help="What the merged model is served as.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Merge an adapter into its base, and serve the weights on an engine of their own.

    A merged model is faster: 2.4 times the throughput of the adapter on a CPU. The merge is made in float32 and
    refused where merged and unmerged logits differ by more than rounding does.

      parley merge support-v1 --name support-v1-merged
    """
    with _opened() as (settings, registry):
        from train.publishing import publish_merge

        merged = publish_merge(adapter, name, registry=registry, settings=settings)
    if as_json:
        values = {"model": merged.model, "folder": str(merged.folder), "difference": merged.difference}
        typer.echo(json.dumps(values | {"agreement": merged.agreement}))
        return
    from rich.markup import escape

    terminal = console()
    terminal.print(
        f"[bold]{merged.model}[/bold] is merged: logits within {merged.difference:.1e} of the adapter's in float32, "
        f"the same next token at {merged.agreement:.1%} of the probes as stored."
    )
    terminal.print(
        f"It is in {escape(str(merged.folder))}, and served as [bold]{merged.model}[/bold] while `parley up` runs."
    )


@contextmanager
def _opened() -> Iterator[tuple[Any, Any]]:
    """(settings, registry), over a database that is at this program's revision; torch is not loaded yet."""
    from models.database import open_database
    from models.registry import Registry
    from models.settings import load_settings, threads_wait_quietly

    threads_wait_quietly()
    settings = load_settings()
    database = open_database(settings)
    try:
        database.check_current()
        yield settings, Registry(database)
    finally:
        database.dispose()


@contextmanager
def _progress(as_json: bool) -> Iterator["Progress"]:
    from train.progress import PlainLines, Terminal, silent

    if as_json:
        yield silent
    elif sys.stdout.isatty():
        with Terminal(console()) as terminal:
            yield terminal
    else:
        yield PlainLines()


def _number(text: str, flag: str, kind: type[int] | type[float]) -> Any:
    """A flag's number, or "auto"."""
    if text == "auto":
        return "auto"
    try:
        return kind(text)
    except ValueError as error:
        what = "a whole number" if kind is int else "a number"
        raise Invalid(f"--{flag} is {text!r}: use {what}, or auto.", param=flag) from error
