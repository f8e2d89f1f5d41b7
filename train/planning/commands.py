"""`parley data count | price | plan`. Each loads its work when it runs."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from models.command_options import expand_options
from models.errors import Invalid, NotFound, Unavailable
from models.terminal import console, open_home, parse_number, print_json
from train.data.options import AsJson, ChatTemplate, DataArgument, ReadingOptions

if TYPE_CHECKING:
    from models.registry.registry import Registry
    from models.settings.settings import Settings
    from train.data.reports import CheckedData
    from train.planning.pricing import Price, Quote

_Epochs = Annotated[str, typer.Option(help="Passes over the data, or auto.")]
_Base = Annotated[str, typer.Option(help="A model of `parley models list`, a folder, or a hub id.", show_default=False)]
_Measure = Annotated[
    bool | None,
    typer.Option(
        "--measure/--estimate",
        help="Measure the time with a few training steps, or only estimate it. Default: measure if that is quick.",
        show_default=False,
    ),
]


@expand_options
def count_command(
    data: DataArgument,
    reading: ReadingOptions,
    model: Annotated[
        str,
        typer.Option(
            help="The model whose tokens are counted: an OpenAI model (also ft:…), a registered one, a folder "
            "or a hub id."
        ),
    ] = "gpt-4o-mini",
    limit: Annotated[
        int | None, typer.Option(help="The most tokens an example may have. Default: the model's own limit.", min=1)
    ] = None,
    lines: Annotated[bool, typer.Option("--lines", help="With --json: the length of each example too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Count the tokens of training data, all of them and those with loss, with a histogram.

    OpenAI's models are counted with tiktoken, others with their own tokenizer and chat template. If the vocabulary is
    not available, the counts are estimates and are labelled so.

      parley data count tickets.jsonl --model gpt-4o-mini

      parley data count tickets.jsonl --model demo-base --limit 512 --json
    """
    from train.planning.display import show_counts
    from train.planning.token_counts import count

    checked = reading.load(data)
    with optional_home() as (_, registry):
        counts = count(checked, model, registry=registry, limit=limit or _training_context(model))
    if as_json:
        print_json(counts.to_json(lines=lines))
    else:
        show_counts(console(), counts)


@expand_options
def price_command(
    data: DataArgument,
    reading: ReadingOptions,
    model: Annotated[
        list[str] | None,
        typer.Option(help="A model of the price table; repeat it for more. Default: all.", show_default=False),
    ] = None,
    provider: Annotated[str | None, typer.Option(help="Only openai or only together.", show_default=False)] = None,
    user_prices: Annotated[
        list[str] | None,
        typer.Option(
            "--price",
            help="Use your own price, in US dollars per million tokens: MODEL=TRAINING or "
            "MODEL=TRAINING/INPUT/OUTPUT. Repeatable.",
            show_default=False,
        ),
    ] = None,
    epochs: _Epochs = "auto",
    kind: Annotated[str | None, typer.Option(help="Together: lora or full.", show_default=False)] = None,
    base: Annotated[
        str | None, typer.Option(help="Also plan a local run on this base: memory and time.", show_default=False)
    ] = None,
    measure: _Measure = None,
    as_json: AsJson = False,
) -> None:
    """Show what training on this data costs at OpenAI and Together AI, and with --base what it needs here.

    Each price in the table has a date; prices over 90 days old are marked. There is a warning for models that are shut
    down soon.

      parley data price tickets.jsonl --model gpt-4o-mini --model Qwen/Qwen3-8B

      parley data price tickets.jsonl --price gpt-4o-mini=3/0.3/1.2

      parley data price tickets.jsonl --provider openai --base demo-base
    """
    from train.hyperparameters import Hyperparameters
    from train.planning.display import show_plan, show_quotes
    from train.planning.plan import plan
    from train.request import TrainingRequest

    prices = _prices(model or (), provider, user_prices or ())
    checked = reading.load(data)
    if checked.labels:
        raise Invalid(
            "These providers do not train on answers labelled good or bad (KTO): train here with `parley train "
            "--method kto`, or remove the labels.",
            param="data",
        )
    number = parse_number(epochs, "epochs", float)
    local = None
    with optional_home() as (settings, registry):
        quotes, left_out = _quotes(checked, prices, number, kind, strict=bool(model or user_prices))
        if base:
            request = TrainingRequest((), base, hyperparameters=Hyperparameters(epochs=number))
            local = plan(request, checked=checked, settings=settings, registry=registry, measure=measure)
    if as_json:
        rows = [quote.to_json() for quote in quotes]
        answer = {"quotes": rows, "plan": local.to_json() if local else None, "left_out": left_out}
        print_json(answer)
        return
    screen = console()
    if quotes:
        show_quotes(screen, quotes, left_out)
    if local:
        screen.print()
        show_plan(screen, local)


@expand_options
def plan_command(
    data: DataArgument,
    base: _Base,
    reading: ReadingOptions,
    tune: Annotated[str, typer.Option(help="lora, qlora or full: the method that is measured.")] = "lora",
    epochs: _Epochs = "auto",
    rank: Annotated[str, typer.Option(help="LoRA rank, or auto.")] = "auto",
    batch_size: Annotated[str, typer.Option(help="Conversations per step, or auto.")] = "auto",
    max_length: Annotated[str, typer.Option(help="The most tokens a conversation may have, or auto.")] = "auto",
    chat_template: ChatTemplate = None,
    measure: _Measure = None,
    gpu: Annotated[
        str | None,
        typer.Option(
            help="Plan for another GPU by its data sheet: l4, rtx-4090, a100-80gb or h100-80gb.",
            show_default=False,
        ),
    ] = None,
    gpus: Annotated[int, typer.Option(help="GPUs per machine that share each batch.", min=1)] = 1,
    nodes: Annotated[int, typer.Option(help="Machines that share each batch.", min=1)] = 1,
    against: Annotated[
        str | None,
        typer.Option(help="The id or folder of a finished run, to compare the plan with.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show whether training on this data fits this machine, and how long it takes, with LoRA, QLoRA and full tuning.

    Conversations are planned for SFT, pairs for DPO, and labelled answers for KTO. Memory is calculated part by part.
    Time is measured with a few training steps, or estimated. If a method does not
    fit, the plan says what would.

      parley data plan tickets.jsonl --base demo-base

      parley data plan tickets.jsonl --base demo-base --against ~/.parley/runs/01JD…

      parley data plan tickets.jsonl --base Qwen/Qwen3-8B --gpu rtx-4090

    With several GPUs, the plan also shows whether each holds a copy of the model (DDP), or they divide one (FSDP):

      parley data plan tickets.jsonl --base Qwen/Qwen3-32B --gpu l4 --gpus 4 --nodes 2
    """
    from models.chat_templates import read_template
    from train.hyperparameters import Hyperparameters
    from train.planning.display import show_comparison, show_plan
    from train.planning.plan import compare_with_run, plan
    from train.request import TrainingRequest

    checked = reading.load(data)
    comparison = None
    with optional_home() as (settings, registry):
        if against:
            from train.run.folder import find_run

            folder = find_run(against, settings)
            comparison = compare_with_run(folder, checked, settings=settings, registry=registry, measure=measure)
            made = comparison.plan
        else:
            numbers: dict[str, Any] = {
                "epochs": parse_number(epochs, "epochs", float),
                "batch_size": parse_number(batch_size, "batch-size", int),
                "max_length": parse_number(max_length, "max-length", int),
            }
            if tune != "full":
                numbers["rank"] = parse_number(rank, "rank", int)
            hyperparameters = Hyperparameters(tune=tune, **numbers)  # type: ignore[arg-type]  # it checks the name
            template = read_template(chat_template) if chat_template else None
            request = TrainingRequest(
                data, base, hyperparameters=hyperparameters, columns=reading.columns, chat_template=template,
                gpus=gpus, nodes=nodes,
            )  # fmt: skip
            made = plan(request, checked=checked, settings=settings, registry=registry, measure=measure, gpu=gpu)
    if as_json:
        print_json((comparison or made).to_json())
        return
    screen = console()
    show_plan(screen, made)
    if comparison:
        screen.print()
        show_comparison(screen, comparison)


def _prices(models: Sequence[str], provider: str | None, user_prices: Sequence[str]) -> "list[Price]":
    """The prices of the named models and those in `user_prices`; without either, the whole table."""
    from train.planning.pricing import find_price, parse_user_price, price_table

    parsed = [parse_user_price(text) for text in user_prices]
    prices = [
        next((price for price in parsed if name in price.models), None) or find_price(name, provider) for name in models
    ]
    prices += [price for price in parsed if price not in prices]
    prices = prices or [price for price in price_table() if provider in (None, price.provider)]
    if not prices:
        raise NotFound(f"There is no provider {provider!r}: use openai or together.", param="provider")
    return prices


def _quotes(
    checked: "CheckedData", prices: "list[Price]", epochs: Any, kind: str | None, *, strict: bool
) -> "tuple[list[Quote], list[str]]":
    """A quote for each model, and why some have none. With `strict` every model must have one."""
    from models.database import utcnow
    from train.planning.pricing import UNKNOWN_PROVIDER, quote
    from train.planning.token_counts import count, estimate

    quotes: list[Quote] = []
    left_out: list[str] = []
    for price in prices:
        if not strict and price.stopped(utcnow().date()):
            left_out.append(f"{price.model} stopped on {price.retires}")
            continue
        # A price needs no exact count, and fetching each of Together's tokenizers from the hub would take minutes.
        counts = (
            estimate(checked, price.model)
            if price.provider == UNKNOWN_PROVIDER
            else count(checked, price.model, limit=price.training_context, fetch=False)
        )
        method = "dpo" if checked.preferences and not checked.examples else "sft"
        try:
            quotes.append(
                quote(counts, price, epochs=epochs, kind=kind if kind in price.training else None, method=method)
            )
        except Invalid as error:
            if strict:
                raise
            left_out.append(f"{price.model}: {error}")
    return quotes, left_out


@contextmanager
def optional_home() -> "Iterator[tuple[Settings, Registry | None]]":
    """The settings and the registry; no registry if there is no home yet, because looking at data creates none."""
    from models.settings.hub import use_hub_token
    from models.settings.settings import load_settings

    settings = load_settings()
    use_hub_token(settings.hub_token)
    with ExitStack() as stack:
        registry = None
        if settings.database_url is not None or (settings.home / "parley.db").exists():
            try:
                registry = stack.enter_context(open_home()).registry
            except Unavailable:  # no migrated database: no model is registered
                registry = None
        yield settings, registry


def _training_context(model: str) -> int | None:
    """The most tokens that a provider trains on in one example; None for models without a price."""
    from train.planning.pricing import find_price

    try:
        return find_price(model).training_context
    except NotFound:
        return None
