"""This room's commands: `parley db`, `parley models`, `parley keys`, `parley settings`, `parley worker`.

`add_commands` hangs them on the front door's Typer app; nothing is loaded before a command runs.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from models.errors import Invalid
from models.keys_commands import add_keys_commands

if TYPE_CHECKING:
    from models.spec import ModelSpec, Parity


def console() -> Any:
    """A Rich console on standard output, for tables and lines that people read."""
    from rich.console import Console

    # No emoji: in the id of a fine-tune, `ft:gpt-4o-mini:acme:rocket:A1`, the suffix would become a picture.
    return Console(highlight=False, emoji=False)


def opened() -> tuple[Any, Any]:
    """(settings, database), the database checked to be at this program's revision."""
    from models.database import open_database
    from models.settings import load_settings

    settings = load_settings()
    database = open_database(settings)
    database.check_current()
    return settings, database


def add_commands(app: typer.Typer) -> None:
    """Hangs this room's commands on the `parley` app."""
    db = typer.Typer(help="The database: tables and migrations.", no_args_is_help=True)
    db.command("upgrade")(db_upgrade)
    db.command("revision", hidden=True)(db_revision)
    app.add_typer(db, name="db")

    models = typer.Typer(help="The registry: which models are served, and under which names.", no_args_is_help=True)
    models.command("list")(models_list)
    models.command("show")(models_show)
    models.command("add")(models_add)
    models.command("alias")(models_alias)
    models.command("retire")(models_retire)
    app.add_typer(models, name="models")

    add_keys_commands(app)
    app.command("settings")(show_settings)


def db_upgrade() -> None:
    """Bring the database to this program's tables. `parley up` does it by itself."""
    from models.database import upgrade
    from models.settings import load_settings

    settings = load_settings()
    upgrade(settings)
    console().print(
        f"The database is up to date: {settings.home / 'parley.db'}"
        if settings.database_url is None
        else "The database is up to date."
    )


def db_revision(message: Annotated[str, typer.Argument(help="What the migration does, in a few words.")]) -> None:
    """Write a new migration from what the tables.py files say and the database does not have (for developers)."""
    from alembic import command

    from models.database import alembic_config, open_database, upgrade
    from models.settings import load_settings

    settings = load_settings()
    upgrade(settings)
    with open_database(settings).connection() as connection:
        command.revision(alembic_config(connection), message=message, autogenerate=True)


JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def models_list(
    as_json: JsonFlag = False,
    everything: Annotated[bool, typer.Option("--all", help="Candidates and retired models too.")] = False,
) -> None:
    """List the models, with kind, base and names, and warn of those that are switched off within 90 days."""
    from rich.table import Table

    from models.registry import Registry
    from models.shutdowns import show_shutdowns

    registry = Registry(opened()[1])
    specs = registry.list(include_candidates=everything, include_retired=everything)
    if as_json:
        typer.echo(json.dumps([spec.model_dump(mode="json") for spec in specs], indent=2))
        return
    names: dict[str, list[str]] = {}
    for alias, target in registry.aliases().items():
        names.setdefault(target, []).append(alias)
    table = Table("model", "kind", "base", "also called", "state", "parity", "created", box=None, header_style="bold")
    for spec in specs:
        state = spec.state if spec.shutdown_date is None else f"{spec.state}, off on {spec.shutdown_date}"
        called = ", ".join(names.get(spec.id, []))
        table.add_row(
            spec.id, spec.kind, spec.base or "", called, state, _parity(spec), f"{spec.created:%Y-%m-%d %H:%M}"
        )
    console().print(
        table if specs else "No model is registered yet: `parley models add`, `parley train`, `parley demo`."
    )
    show_shutdowns(specs, console())


def models_show(
    name: Annotated[str, typer.Argument(help="A model's id, or another name for it.")], as_json: JsonFlag = False
) -> None:
    """Show one model: what it is, where it is, and how its weights compare with float32 base + adapter."""
    from rich.markup import escape
    from rich.table import Table

    from models.registry import Registry

    registry = Registry(opened()[1])
    spec = registry.resolve(name)
    if as_json:
        typer.echo(spec.model_dump_json(indent=2))
        return
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    called = ", ".join(alias for alias, target in registry.aliases().items() if target == spec.id)
    upstream = f"{spec.upstream.model} at {spec.upstream.base_url}" if spec.upstream else None
    facts = {
        "model": f"{spec.id}, {spec.kind}, {spec.state}", "also called": called, "about": spec.description,
        "base": spec.base, "trained from": spec.parent, "made by": spec.job, "made": f"{spec.created:%Y-%m-%d %H:%M}",
        "weights": spec.path, "upstream": upstream, "LoRA rank": spec.lora_rank,
        "switched off": spec.shutdown_date, "engine": _unusual(spec),
    }  # fmt: skip
    for title, value in facts.items():
        if value:
            table.add_row(title, escape(str(value)))
    out = console()
    out.print(table)
    if spec.parity is not None:
        out.print(f"\nAgainst float32 base + adapter, {spec.parity.checked:%Y-%m-%d %H:%M}:")
        out.print(parity_table(spec.parity))


def models_add(
    name: Annotated[str, typer.Argument(help="What clients will send as `model`.")],
    path: Annotated[
        str | None, typer.Option(help="A folder of safetensors, or a hub id such as Qwen/Qwen3-4B.")
    ] = None,
    kind: Annotated[
        str | None, typer.Option(help="base, merged, adapter or hosted; guessed where it is plain.")
    ] = None,
    base: Annotated[str | None, typer.Option(help="For an adapter: the id of the model that it hangs on.")] = None,
    base_url: Annotated[str | None, typer.Option(help="For hosted: an OpenAI-compatible address.")] = None,
    upstream_model: Annotated[str | None, typer.Option(help="For hosted: its name there, if it is another.")] = None,
    credential: Annotated[
        str | None, typer.Option(help="For hosted: the NAME of the environment variable that holds the key.")
    ] = None,
    max_model_len: Annotated[int | None, typer.Option(help="Context length in tokens.")] = None,
    dtype: Annotated[str, typer.Option(help="auto, bfloat16, float16 or float32.")] = "auto",
    trust_remote_code: Annotated[bool, typer.Option(help="Run code that comes with the weights.")] = False,
) -> None:
    """Register a model: a folder, a hub id, an adapter, or one behind an OpenAI-compatible address.

    Examples:

      parley models add llama --path /data/llama-3.2-1b

      parley models add support-v2 --path /data/lora --base llama

      parley models add gpt --base-url https://api.openai.com/v1 --upstream-model ft:gpt-4o-mini:acme::abc
      --credential OPENAI_API_KEY
    """
    from models.registry import Registry, parse_spec

    if path and base_url:
        raise Invalid("A model has weights or an upstream, not both: give --path or --base-url.")
    if not path and not base_url:
        raise Invalid("Say where the model is: --path FOLDER or HUB_ID, or --base-url ADDRESS.", param="path")
    if path and Path(path).expanduser().exists():
        path = str(Path(path).expanduser().absolute())
    upstream = base_url and {"base_url": base_url, "model": upstream_model or name, "credential": credential}
    spec = parse_spec(
        id=name,
        kind=kind or ("hosted" if upstream else _guess_kind(path or "", base)),
        path=path,
        base=base,
        upstream=upstream,
        lora_rank=_lora_rank(path) if path else None,
        engine={"max_model_len": max_model_len, "dtype": dtype, "trust_remote_code": trust_remote_code},
    )
    Registry(opened()[1]).register(spec)
    console().print(f"[bold]{spec.id}[/bold] is registered as {spec.kind}. A running Parley serves it from now on.")


def models_alias(
    name: Annotated[str, typer.Argument(help="The other name.")],
    target: Annotated[str | None, typer.Argument(help="The model it points at; none removes the alias.")] = None,
) -> None:
    """Give a model another name, or move that name to another model in one step."""
    from models.registry import Registry

    registry = Registry(opened()[1])
    if target is None:
        registry.unalias(name)
        console().print(f"{name} is no name any more.")
    else:
        registry.alias(name, target)
        console().print(f"{name} → {target}")


def models_retire(name: Annotated[str, typer.Argument(help="The model's id.")]) -> None:
    """Stop serving and listing a model. Its weights, votes and row stay."""
    from models.registry import Registry

    Registry(opened()[1]).retire(name)
    console().print(f"{name} is retired.")


def show_settings() -> None:
    """Show every setting with its value and what it means. Secrets are masked."""
    from rich.markup import escape
    from rich.table import Table

    from models.settings import Settings, load_settings

    settings = load_settings()
    table = Table("setting", "value", "what it means", box=None, header_style="bold")
    for name, field in Settings.model_fields.items():
        table.add_row(name, escape(str(getattr(settings, name))), field.description)
    console().print(table)


def parity_table(parity: "Parity") -> Any:
    """What a comparison has measured, as a table of two columns."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_row("probes", f"{parity.probes}, {parity.tokens:,} positions; {escape(parity.source)}")
    if parity.difference is not None:
        table.add_row("float32", f"logits within {parity.difference:.1e}, {parity.same_greedy} greedy answers the same")
    table.add_row(parity.dtype, f"{parity.agreement:.2%} the same token, divergence {parity.kl:.1e} nats per token")
    if parity.served is None:
        table.add_row("vLLM", f"not asked: {escape(parity.not_served or 'not yet')}")
    else:
        served = parity.served
        letter = f"{served.same_text} of {served.asked} answers to the letter"
        table.add_row("vLLM", f"{served.agreement:.2%} of {served.tokens:,} tokens; {letter}")
    table.add_row("", f"[red]refused: {escape(parity.refused)}[/red]" if parity.refused else "[green]passed[/green]")
    return table


def _parity(spec: "ModelSpec") -> str:
    """How it compared, in a table's cell; empty for what was never trained here."""
    return spec.parity.summary if spec.parity else ""


def _unusual(spec: "ModelSpec") -> str:
    """The engine's options that are not as they come."""
    values = spec.engine.model_dump(exclude_defaults=True)
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _guess_kind(path: str, base: str | None) -> str:
    if (Path(path) / "adapter_config.json").is_file():
        return "adapter"
    return "merged" if base else "base"


def _lora_rank(path: str) -> int | None:
    config = Path(path) / "adapter_config.json"
    try:
        return int(json.loads(config.read_text("utf-8"))["r"]) if config.is_file() else None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise Invalid(f"{config} is no adapter's configuration: {error}.", param="path") from error
