"""`parley data count | price | plan`, and the line that hangs these and `making_commands` on the group."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from models.errors import Invalid, NotFound, Unavailable
from train.data.commands import AsJson, File, Format, PromptColumn, ResponseColumn, System, SystemColumn

if TYPE_CHECKING:
    from rich.console import Console

    from models.registry import Registry
    from models.settings import Settings
    from train.data.reports import CheckedData
    from train.planning.pricing import Price, Quote

_Epochs = Annotated[str, typer.Option(help="Times through the data, or auto.")]
_Base = Annotated[str, typer.Option(help="A model of `parley models list`, a folder, or a hub id.", show_default=False)]
_Measure = Annotated[
    bool | None,
    typer.Option(
        "--measure/--estimate",
        help="Try a few training steps out, or never; without either: where that is quick.",
        show_default=False,
    ),
]


def add_money_commands(app: typer.Typer) -> None:
    """Hangs count, price, plan, synthesise and advise on the `data` group."""
    from train.data.synthesis_command import advise_command, synthesise_command

    app.command("count")(count_command)
    app.command("price")(price_command)
    app.command("plan")(plan_command)
    app.command("synthesise")(synthesise_command)
    app.command("advise")(advise_command)


def count_command(
    data: File,
    model: Annotated[
        str, typer.Option(help="Whose tokens: an OpenAI model (also ft:…), a registered one, a folder or a hub id.")
    ] = "gpt-4o-mini",
    limit: Annotated[
        int | None, typer.Option(help="Tokens an example may have; the model's own limit without it.", min=1)
    ] = None,
    lines: Annotated[bool, typer.Option("--lines", help="With --json: each example's length too.")] = False,
    format: Format = "auto",  # noqa: A002 -- the flag's name
    prompt_column: PromptColumn = "prompt",
    response_column: ResponseColumn = "response",
    system_column: SystemColumn = None,
    system: System = None,
    as_json: AsJson = False,
) -> None:
    """Count training data in a model's own tokens: all, and those that are learnt; with a histogram.

    OpenAI's models by tiktoken, others by their own tokenizer with their chat template. Where the vocabulary is not
    at hand, it is an estimate and says so.

      parley data count tickets.jsonl --model gpt-4o-mini

      parley data count tickets.jsonl --model demo-base --limit 512 --json
    """
    from train.planning.counting import count
    from train.planning.display import show_counts

    checked = checked_data(data, format, (prompt_column, response_column, system_column, system))
    with _house() as (_, registry):
        counts = count(checked, model, registry=registry, limit=limit or _training_context(model))
    if as_json:
        typer.echo(json.dumps(counts.as_json(lines=lines), ensure_ascii=False))
    else:
        show_counts(console(), counts)


def price_command(
    data: File,
    model: Annotated[
        list[str] | None,
        typer.Option(help="A model of the price table; again for more. All of them without it.", show_default=False),
    ] = None,
    provider: Annotated[str | None, typer.Option(help="openai or together alone.", show_default=False)] = None,
    epochs: _Epochs = "auto",
    kind: Annotated[str | None, typer.Option(help="Together: lora or full.", show_default=False)] = None,
    base: Annotated[
        str | None, typer.Option(help="Also plan a local run on this base: memory and time.", show_default=False)
    ] = None,
    measure: _Measure = None,
    format: Format = "auto",  # noqa: A002 -- the flag's name
    prompt_column: PromptColumn = "prompt",
    response_column: ResponseColumn = "response",
    system_column: SystemColumn = None,
    system: System = None,
    as_json: AsJson = False,
) -> None:
    """What training on this data would cost at OpenAI and Together AI, and with --base what it needs here.

    Prices are from a table with a date on each; an old price, a provider that is closing and a model that is about to
    be switched off are warned of. Check the price where the warning says.

      parley data price tickets.jsonl --model gpt-4o-mini --model Qwen/Qwen3-8B

      parley data price tickets.jsonl --provider openai --base demo-base
    """
    from train.planning.display import show_plan, show_quotes
    from train.planning.pricing import find_price, price_table

    checked = checked_data(data, format, (prompt_column, response_column, system_column, system))
    wanted = [find_price(name, provider) for name in model or ()]
    wanted = wanted or [price for price in price_table() if provider in (None, price.provider)]
    if not wanted:
        raise NotFound(f"There is no provider {provider!r}: use openai or together.", param="provider")
    number = _number(epochs, "epochs")
    with _house() as (settings, registry):
        quotes, left_out = _quotes(checked, wanted, number, kind, strict=bool(model))
        plan = None
        if base:
            from train.hyperparameters import Hyperparameters
            from train.planning.plan import plan as make_plan

            asked = Hyperparameters(epochs=number)
            plan = make_plan(
                checked, base, settings=settings, registry=registry, hyperparameters=asked, measure=measure
            )
    if as_json:
        found = {"quotes": [quote.as_json() for quote in quotes], "plan": plan.as_json() if plan else None}
        typer.echo(json.dumps(found | {"left_out": left_out}, ensure_ascii=False))
        return
    screen = console()
    if quotes:
        show_quotes(screen, quotes, left_out)
    if plan:
        screen.print()
        show_plan(screen, plan)


def plan_command(
    data: File,
    base: _Base,
    tune: Annotated[str, typer.Option(help="lora, qlora or full: the way that is tried out.")] = "lora",
    epochs: _Epochs = "auto",
    rank: Annotated[str, typer.Option(help="LoRA rank, or auto.")] = "auto",
    batch_size: Annotated[str, typer.Option(help="Conversations a step, or auto.")] = "auto",
    max_length: Annotated[str, typer.Option(help="Tokens a conversation may have, or auto.")] = "auto",
    measure: _Measure = None,
    against: Annotated[
        str | None,
        typer.Option(help="A finished run's id or folder: what it used, beside the plan.", show_default=False),
    ] = None,
    format: Format = "auto",  # noqa: A002 -- the flag's name
    prompt_column: PromptColumn = "prompt",
    response_column: ResponseColumn = "response",
    system_column: SystemColumn = None,
    system: System = None,
    as_json: AsJson = False,
) -> None:
    """Whether training on this data fits this machine, and how long it takes: LoRA, QLoRA and full tuning.

    Memory is by formula, part by part; time by a few steps that are tried out, or by an estimate, and it says which.
    What does not fit is told what would.

      parley data plan tickets.jsonl --base demo-base

      parley data plan tickets.jsonl --base demo-base --against ~/.parley/runs/01JD…
    """
    from train.hyperparameters import Hyperparameters
    from train.planning.display import show_against, show_plan
    from train.planning.plan import plan, plan_against

    checked = checked_data(data, format, (prompt_column, response_column, system_column, system))
    with _house() as (settings, registry):
        if against:
            from train.run.folder import find_run

            folder = find_run(against, settings)
            held = plan_against(folder, checked, settings=settings, registry=registry, measure=measure)
            made = held.plan
        else:
            held = None
            adapter = {} if tune == "full" else {"rank": _number(rank, "rank", int)}
            asked = Hyperparameters(
                tune=tune,  # type: ignore[arg-type]  # its own check names the three that there are
                epochs=_number(epochs, "epochs"),
                batch_size=_number(batch_size, "batch-size", int),
                max_length=_number(max_length, "max-length", int),
                **adapter,
            )
            made = plan(checked, base, settings=settings, registry=registry, hyperparameters=asked, measure=measure)
    if as_json:
        found: dict[str, Any] = held.as_json() if held else made.as_json()
        typer.echo(json.dumps(found, ensure_ascii=False))
        return
    screen = console()
    show_plan(screen, made)
    if held:
        screen.print()
        show_against(screen, held)


def _quotes(
    checked: "CheckedData", wanted: "list[Price]", epochs: Any, kind: str | None, *, strict: bool
) -> "tuple[list[Quote], list[str]]":
    """A quote for each model, and why some have none; a model that was asked for by name must have one."""
    from models.database import utcnow
    from train.planning.counting import count
    from train.planning.pricing import quote

    found: list[Quote] = []
    left_out: list[str] = []
    for price in wanted:
        if not strict and price.stopped(utcnow().date()):
            left_out.append(f"{price.model} stopped on {price.retires}")
            continue
        # A price needs no exact count, and asking the hub for each of Together's tokenizers would take minutes.
        counts = count(checked, price.model, limit=price.training_context, fetch=False)
        try:
            method = "dpo" if checked.preferences and not checked.examples else "sft"
            found.append(
                quote(counts, price, epochs=epochs, kind=kind if kind in price.training else None, method=method)
            )
        except Invalid as error:
            if strict:
                raise
            left_out.append(f"{price.model}: {error}")
    return found, left_out


def checked_data(data: str, format_: str, columns: tuple[str, str, str | None, str | None]) -> "CheckedData":
    """The data as it can be used; what is wrong with it is `parley data check`'s to say.

    Raises:
        Invalid: nothing of it can be used.
    """
    from train.data.checks import check
    from train.data.readers import Columns

    named: Columns = Columns(*columns)
    checked = check(data, named, format=format_, provider="local")
    if not checked.examples and not checked.preferences:
        raise Invalid(f"{data} has no example without errors: `parley data check` says what to mend.", param="data")
    return checked


@contextmanager
def _house() -> "Iterator[tuple[Settings, Registry | None]]":
    """The settings and the registry; no registry where there is no home yet, because then no model is registered."""
    from models.database import open_database
    from models.registry import Registry
    from models.settings import load_settings

    settings = load_settings()
    if settings.database_url is None and not (settings.home / "parley.db").exists():
        yield settings, None  # looking at data makes no home
        return
    database = open_database(settings)
    try:
        try:
            database.check_current()
            registry = Registry(database)
        except Unavailable:
            registry = None
        yield settings, registry
    finally:
        database.dispose()


def _training_context(model: str) -> int | None:
    """What a provider trains on at most; None for models that the price table does not have."""
    from train.planning.pricing import find_price

    try:
        return find_price(model).training_context
    except NotFound:
        return None


def _number(text: str, flag: str, kind: type[int] | type[float] = float) -> Any:
    """A flag's number, or "auto"."""
    if text == "auto":
        return "auto"
    try:
        return kind(text)
    except ValueError as error:
        what = "a whole number" if kind is int else "a number"
        raise Invalid(f"--{flag} is {text!r}: use {what}, or auto.", param=flag) from error


def console() -> "Console":
    """Where tables are printed: numbers are not coloured."""
    from rich.console import Console

    return Console(highlight=False)
