"""`parley models …`: the registry from a terminal. Each command is one change, which a running Parley acts upon.

`add_models_commands` hangs them on the front door's Typer app; nothing is loaded before a command runs.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from models.errors import Invalid

if TYPE_CHECKING:
    from models.spec import ModelSpec, Parity


def add_models_commands(app: typer.Typer) -> None:
    """Hangs `parley models` on the `parley` app."""
    models = typer.Typer(
        help="The registry: which models are served, and under which names. A running Parley follows at once, and "
        "drops no request of another model for it.",
        no_args_is_help=True,
    )
    models.command("list")(models_list)
    models.command("show")(models_show)
    models.command("add")(models_add)
    models.command("alias")(models_alias)
    models.command("retire")(models_retire)
    models.command("pin")(models_pin)
    models.command("unpin")(models_unpin)
    app.add_typer(models, name="models")


JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def models_list(
    as_json: JsonFlag = False,
    everything: Annotated[bool, typer.Option("--all", help="Candidates and retired models too.")] = False,
) -> None:
    """List the models, with kind, base and names, and warn of those that are switched off within 90 days."""
    from rich.table import Table

    from models.cli import opened
    from models.registry import Registry
    from models.shutdowns import show_shutdowns
    from models.terminal import console

    registry = Registry(opened()[1])
    specs = registry.list(include_candidates=everything, include_retired=everything)
    pinned = registry.pinned()
    if as_json:
        told = [spec.model_dump(mode="json") | {"pinned": spec.id in pinned} for spec in specs]
        typer.echo(json.dumps(told, indent=2))
        return
    names: dict[str, list[str]] = {}
    for alias, target in registry.aliases().items():
        names.setdefault(target, []).append(alias)
    table = Table("model", "kind", "base", "also called", "state", "parity", "created", box=None, header_style="bold")
    for spec in specs:
        state = spec.state if spec.shutdown_date is None else f"{spec.state}, off on {spec.shutdown_date}"
        state += ", pinned" if spec.id in pinned else ""
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

    from models.cli import opened
    from models.registry import Registry
    from models.terminal import console

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
        "weights": spec.path, "upstream": upstream,
        "falls back on": ", ".join(spec.fallbacks), "price": _price(spec),
        "LoRA rank": spec.lora_rank,
        "switched off": spec.shutdown_date, "engine": _unusual(spec),
        "pinned": "its engine stays in memory" if spec.id in registry.pinned() else None,
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
    upstream: Annotated[
        str | None, typer.Option("--upstream", "--base-url", help="For hosted: an OpenAI-compatible address.")
    ] = None,
    upstream_model: Annotated[str | None, typer.Option(help="For hosted: its name there, if it is another.")] = None,
    credential: Annotated[
        str | None, typer.Option(help="For hosted: the NAME of the environment variable that holds the key.")
    ] = None,
    fallback: Annotated[
        list[str] | None,
        typer.Option(help="For hosted: a model to ask while the upstream fails; again for more, in order."),
    ] = None,
    usd_per_million_input: Annotated[
        float | None, typer.Option(help="For hosted: what a million tokens in cost, for keys with a money budget.")
    ] = None,
    usd_per_million_output: Annotated[float | None, typer.Option(help="For hosted: and a million tokens out.")] = None,
    max_model_len: Annotated[int | None, typer.Option(help="Context length in tokens.")] = None,
    dtype: Annotated[str, typer.Option(help="auto, bfloat16, float16 or float32.")] = "auto",
    tool_call_parser: Annotated[
        str | None, typer.Option(help="vLLM's parser of tool calls; by the model's family without it; none: no tools.")
    ] = None,
    reasoning_parser: Annotated[
        str | None, typer.Option(help="vLLM's parser of reasoning; by the model's family without it; none: none.")
    ] = None,
    trust_remote_code: Annotated[bool, typer.Option(help="Run code that comes with the weights.")] = False,
    pin: Annotated[bool, typer.Option("--pin", help="Keep its engine in memory, whoever else asks for room.")] = False,
) -> None:
    """Register a model: a folder, a hub id, an adapter, or one behind an OpenAI-compatible address.

    Examples:

      parley models add llama --path /data/llama-3.2-1b

      parley models add support-v2 --path /data/lora --base llama

      parley models add gpt --upstream https://api.openai.com/v1 --upstream-model ft:gpt-4o-mini:acme::abc
      --credential OPENAI_API_KEY --fallback support-v2
    """
    from models.at_path import guess_kind, lora_rank
    from models.cli import opened
    from models.registry import Registry, parse_spec
    from models.terminal import console

    if path and upstream:
        raise Invalid("A model has weights or an upstream, not both: give --path or --upstream.")
    if not path and not upstream:
        raise Invalid("Say where the model is: --path FOLDER or HUB_ID, or --upstream ADDRESS.", param="path")
    if not upstream and any(
        given is not None for given in (upstream_model, credential, usd_per_million_input, usd_per_million_output)
    ):
        raise Invalid("Name at the upstream, credential and prices go with --upstream ADDRESS.", param="upstream")
    if path and Path(path).expanduser().exists():
        path = str(Path(path).expanduser().absolute())
    where = upstream and {
        "base_url": upstream, "model": upstream_model or name, "credential": credential,
        "usd_per_million_input": usd_per_million_input, "usd_per_million_output": usd_per_million_output,
    }  # fmt: skip
    spec = parse_spec(
        id=name,
        kind=kind or ("hosted" if where else guess_kind(path or "", base)),
        path=path,
        base=base,
        upstream=where,
        fallbacks=tuple(fallback or ()),
        lora_rank=lora_rank(path) if path else None,
        engine={
            "max_model_len": max_model_len, "dtype": dtype, "trust_remote_code": trust_remote_code,
            "tool_call_parser": tool_call_parser, "reasoning_parser": reasoning_parser,
        },
    )  # fmt: skip
    if pin and spec.kind not in ("base", "merged"):
        raise Invalid(f"A model of kind {spec.kind} has no engine of its own that could be pinned.", param="pin")
    registry = Registry(opened()[1])
    registry.register(spec)
    if pin:
        registry.pin(spec.id)
    console().print(f"[bold]{spec.id}[/bold] is registered as {spec.kind}. A running Parley serves it from now on.")


def models_alias(
    name: Annotated[str, typer.Argument(help="The other name.")],
    target: Annotated[str | None, typer.Argument(help="The model it points at; none removes the alias.")] = None,
) -> None:
    """Give a model another name, or move that name to another model in one step."""
    from models.cli import opened
    from models.registry import Registry
    from models.terminal import console

    registry = Registry(opened()[1])
    if target is None:
        registry.unalias(name)
        console().print(f"{name} is no name any more.")
    else:
        registry.alias(name, target)
        console().print(f"{name} → {target}")


def models_retire(name: Annotated[str, typer.Argument(help="The model's id.")]) -> None:
    """Stop serving and listing a model; answers that run come to their end. Its weights, votes and row stay."""
    from models.cli import opened
    from models.registry import Registry
    from models.terminal import console

    Registry(opened()[1]).retire(name)
    console().print(f"{name} is retired. A running Parley lets its answers end, and stops it.")


def models_pin(name: Annotated[str, typer.Argument(help="A model's id, or another name for it.")]) -> None:
    """Keep a model's engine in memory: it is never stopped to make room for another, and is started if it sleeps."""
    from models.cli import opened
    from models.registry import Registry
    from models.terminal import console

    console().print(f"{Registry(opened()[1]).pin(name).id} is pinned: its engine stays in memory.")


def models_unpin(name: Annotated[str, typer.Argument(help="A model's id, or another name for it.")]) -> None:
    """Let a model's engine be stopped when another is asked for and there is no room for both."""
    from models.cli import opened
    from models.registry import Registry
    from models.terminal import console

    console().print(f"{Registry(opened()[1]).unpin(name).id} is not pinned any more.")


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


def _price(spec: "ModelSpec") -> str | None:
    """What a hosted model costs, where somebody has said so."""
    upstream = spec.upstream
    if upstream is None or upstream.usd_per_million_input is None or upstream.usd_per_million_output is None:
        return None
    return f"${upstream.usd_per_million_input:g} in, ${upstream.usd_per_million_output:g} out, for a million tokens"
