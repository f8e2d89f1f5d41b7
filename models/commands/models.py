"""`parley models`: the registry from a terminal. A running Parley applies each change at once."""

import os.path
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from models.command_options import expand_options
from models.commands.engine_flags import EngineFlags
from models.errors import Invalid
from models.registry.alias_weights import describe_weights, parse_weights
from models.terminal import console, open_home, print_json

if TYPE_CHECKING:
    from models.database import Database
    from models.registry.new_model import NewModel
    from models.registry.registry import Registry
    from models.spec import ModelSpec, Parity
    from models.terminal import Home


@dataclass(frozen=True)
class WeightTools:
    """Functions of `models add` that convert weights, register the result and return its spec. They need torch, so they
    are in another room, and `parley.py` passes them in.

    `merge`: merges an adapter into its base. `unpack`: unpacks a GGUF file into a folder of the home.
    """

    merge: Callable[["Home", "NewModel"], "ModelSpec"]
    unpack: Callable[["Home", "NewModel"], "ModelSpec"]


RecordedCoverage = Callable[["Database"], dict[str, str]]
"""How much is recorded of each model that is shut down, as text. Recordings belong to another room: `parley.py` passes
the function in."""

_JSON = typer.Option("--json", help="Print JSON instead of a table.")
_NAME = typer.Argument(help="A model's id or alias.")
_PATH = typer.Option(help="A folder of safetensors, a GGUF file, or a hub id such as Qwen/Qwen3-4B.")
_KIND = typer.Option(help="The kind of the weights. Default: read from the folder.")
_BASE = typer.Option(help="For an adapter: the id of its base. Default: the base that the adapter names.")
_MERGE = typer.Option("--merge", help="For an adapter: merge it into its base and serve the merged weights.")
_UPSTREAM = typer.Option("--upstream", "--base-url", help="For a hosted model: an OpenAI-compatible address.")
_UPSTREAM_MODEL = typer.Option(help="For a hosted model: its name at the provider, if different.")
_CREDENTIAL = typer.Option(help="For a hosted model: the NAME of the environment variable that holds its API key.")
_FALLBACK = typer.Option(help="A model that answers while this one is down or starting. Repeatable.")
_USD_INPUT = typer.Option(help="For a hosted model: US dollars per million input tokens.")
_USD_OUTPUT = typer.Option(help="For a hosted model: US dollars per million output tokens.")
_FOLD_SYSTEM = typer.Option(
    "--fold-system",
    help="Put system messages that the chat template does not support into the next user turn: those in the middle of "
    "a conversation or, if the template supports none, all of them.",
)
_PIN = typer.Option("--pin", help="Keep its engine in memory even if another model needs the space.")
_SYSTEM_MESSAGES = {
    "none": "", "later": "those after the first message are put into user turns", "all": "all are put into user turns"
}  # fmt: skip


def no_coverage(database: "Database") -> dict[str, str]:
    """Nothing is known about recordings."""
    return {}


def add_models_commands(
    app: typer.Typer, coverage: RecordedCoverage = no_coverage, tools: WeightTools | None = None
) -> None:
    """Adds `parley models` to the `parley` app."""
    models = typer.Typer(
        help="The registry: which models are served, and under which names. A running Parley applies changes at once, "
        "without dropping requests to other models.",
        no_args_is_help=True,
    )
    models.command("list")(models_list_command(coverage))
    models.command("show")(models_show)
    models.command("add")(expand_options(models_add_command(tools)))
    models.command("alias")(models_alias)
    models.command("retire")(models_retire)
    models.command("scale")(models_scale)
    models.command("fallbacks")(models_fallbacks)
    models.command("pin")(models_pin)
    models.command("unpin")(models_unpin)
    app.add_typer(models, name="models")


def models_list_command(coverage: RecordedCoverage) -> Callable[..., None]:
    """The command `parley models list`."""

    def models_list(
        as_json: Annotated[bool, _JSON] = False,
        everything: Annotated[bool, typer.Option("--all", help="Include candidates and retired models.")] = False,
    ) -> None:
        """List the models, with a warning for those that their provider shuts down and how much of them is recorded."""
        with open_home() as home:
            specs = home.registry.list(include_candidates=everything, include_retired=everything)
            pinned, aliases = home.registry.pinned(), _alias_names(home.registry)
            recorded = coverage(home.database)
        if as_json:
            rows = [
                spec.model_dump(mode="json") | {"pinned": spec.id in pinned, "recorded": recorded.get(spec.id)}
                for spec in specs
            ]
            print_json(rows, indent=2)
            return
        _print_models(specs, pinned, aliases, recorded)

    return models_list


def _print_models(
    specs: "Sequence[ModelSpec]", pinned: set[str], aliases: dict[str, list[str]], recorded: dict[str, str]
) -> None:
    from rich.markup import escape
    from rich.table import Table

    from models.registry.shutdowns import print_shutdowns

    table = Table("model", "kind", "base", "aliases", "state", "parity", "created", box=None, header_style="bold")
    for spec in specs:
        state = spec.state if spec.shutdown_date is None else f"{spec.state}, off on {spec.shutdown_date}"
        state += ", pinned" if spec.id in pinned else ""
        parity = spec.parity.summary if spec.parity else ""
        created = f"{spec.created:%Y-%m-%d %H:%M}"
        table.add_row(spec.id, spec.kind, spec.base or "", ", ".join(aliases.get(spec.id, ())), state, parity, created)
    out = console()
    out.print(
        table if specs else "No models are registered yet. Use `parley models add`, `parley train` or `parley demo`."
    )
    print_shutdowns(specs, out)
    for spec in specs:
        if text := recorded.get(spec.id):
            out.print(f"{escape(spec.id)}: {text}. `parley record {escape(spec.id)}` records what is missing.")


def models_show(name: Annotated[str, _NAME], as_json: Annotated[bool, _JSON] = False) -> None:
    """Show one model: what it is, where it is, and how its weights compare with float32 base + adapter."""
    from rich.markup import escape
    from rich.table import Table

    with open_home() as home:
        spec = home.registry.resolve(name)
        pinned, aliases = home.registry.pinned(), _alias_names(home.registry)
    if as_json:
        typer.echo(spec.model_dump_json(indent=2))
        return
    facts = {
        "model": f"{spec.id}, {spec.kind}, {spec.state}", "aliases": ", ".join(aliases.get(spec.id, ())),
        "description": spec.description, "base": spec.base, "trained from": spec.parent, "job": spec.job,
        "created": f"{spec.created:%Y-%m-%d %H:%M}", "weights": spec.path,
        "upstream": f"{spec.upstream.model} at {spec.upstream.shown_address}" if spec.upstream else None,
        "fallbacks": ", ".join(spec.fallbacks), "price": _price(spec), "LoRA rank": spec.lora_rank,
        "system messages": _SYSTEM_MESSAGES[spec.fold_system], "shutdown": spec.shutdown_date,
        "engine": _engine_options(spec),
        "pinned": "its engine stays in memory" if spec.id in pinned else None,
    }  # fmt: skip
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for title, value in facts.items():
        if value:
            table.add_row(title, escape(str(value)))
    out = console()
    out.print(table)
    if spec.parity is not None:
        out.print(f"\nCompared with float32 base + adapter, {spec.parity.checked:%Y-%m-%d %H:%M}:")
        out.print(parity_table(spec.parity))


def models_add_command(tools: WeightTools | None) -> Callable[..., None]:
    """The command `parley models add`. Without tools it can neither merge adapters nor unpack GGUF files."""

    def models_add(
        name: Annotated[
            str, typer.Argument(help="The name that clients send as `model`. Or a path, whose last part is the name.")
        ],
        path: Annotated[str | None, _PATH] = None,
        kind: Annotated[Literal["base", "merged", "adapter", "hosted"] | None, _KIND] = None,
        base: Annotated[str | None, _BASE] = None,
        merge: Annotated[bool, _MERGE] = False,
        upstream: Annotated[str | None, _UPSTREAM] = None,
        upstream_model: Annotated[str | None, _UPSTREAM_MODEL] = None,
        credential: Annotated[str | None, _CREDENTIAL] = None,
        fallback: Annotated[list[str] | None, _FALLBACK] = None,
        usd_per_million_input: Annotated[float | None, _USD_INPUT] = None,
        usd_per_million_output: Annotated[float | None, _USD_OUTPUT] = None,
        pin: Annotated[bool, _PIN] = False,
        fold_system: Annotated[bool, _FOLD_SYSTEM] = False,
        engine: EngineFlags = EngineFlags(),
    ) -> None:
        """Register a model: a folder, a GGUF file, a hub id, an adapter, or a model at an OpenAI-compatible address.

        The files are checked first: if an engine cannot load them, the error says why and what to do.

        Examples:

          parley models add llama --path /data/llama-3.2-1b

          parley models add support-v2 --path /data/lora --base llama

          parley models add support-v3 --path /data/lora-rank-128 --base llama --merge

          parley models add ./Qwen3-4B-Q4_K_M.gguf

          parley models add gpt --upstream https://api.openai.com/v1 --upstream-model ft:gpt-4o-mini:acme::abc
          --credential OPENAI_API_KEY --fallback support-v2
        """
        from models.compatibility.folder_checks import expand_user
        from models.registry.new_model import NewModel, lacks_chat_template

        if path is None and upstream is None and os.path.exists(expand_user(name)):
            name, path = _name_of(expand_user(name)), name
        new = NewModel(
            name=name,
            path=path,
            kind=kind,
            base=base,
            upstream=upstream,
            upstream_model=upstream_model,
            credential=credential,
            fallbacks=tuple(fallback or ()),
            usd_per_million_input=usd_per_million_input,
            usd_per_million_output=usd_per_million_output,
            engine=engine.options(),
            pin=pin,
            fold_system=fold_system,
        )
        with open_home() as home:
            home.registry.sweep_unclaimed(home.settings.models_dir)
            if tools is not None and new.is_gguf and not merge:
                spec = tools.unpack(home, new)
            elif tools is not None and merge:
                spec = tools.merge(home, new)
            else:
                spec = new.register(home.registry)
        console().print(f"[bold]{spec.id}[/bold] is registered as {spec.kind}. A running Parley serves it from now on.")
        if lacks_chat_template(spec):
            mend = "train it with --chat-template, or add it under another name with --chat-template"
            console().print(f"It has no chat template, so chat requests are refused: {mend}.")

    return models_add


def _name_of(path: Path) -> str:
    """A model's name from its path: the last part without .gguf, with dashes for characters that are not allowed."""
    path = path.absolute()
    stem = path.stem if path.suffix.lower() == ".gguf" else path.name
    return re.sub(r"[^A-Za-z0-9._:@+-]+|\.{2,}", "-", stem).lstrip("._:@+-")


def models_alias(
    name: Annotated[str, typer.Argument(help="The alias.")],
    target: Annotated[str | None, typer.Argument(help="The model it points to. Without it: removes the alias.")] = None,
    to: Annotated[str | None, typer.Option(help="Several models with their weights, such as a=90,b=10.")] = None,
) -> None:
    """Give a model another name, or move that name to another model in one step.

    With --to, requests are split between several models, for example to try a new version on some of your users. The
    same `user` always gets the same model; without that field, the same conversation does. The response's
    header x-parley-model names the model that answered.

    Examples:

      parley models alias support support-v3

      parley models alias support --to support-v3=90,support-v4=10
    """
    if target is not None and to is not None:
        raise Invalid("Give one model, or --to with several; not both.", param="to")
    with open_home() as home:
        if to is not None:
            weights = parse_weights(to)
            home.registry.split_alias(name, weights)
            console().print(f"{name} → {describe_weights(weights)}")
        elif target is None:
            home.registry.unalias(name)
            console().print(f"The alias {name} is removed.")
        else:
            home.registry.alias(name, target)
            console().print(f"{name} → {target}")


def models_retire(name: Annotated[str, typer.Argument(help="The model's id.")]) -> None:
    """Stop serving and listing a model. Running answers finish; its weights, votes and registry row stay."""
    with open_home() as home:
        home.registry.retire(name)
    console().print(f"{name} is retired. A running Parley finishes its running answers, then stops it.")


def models_scale(
    name: Annotated[str, _NAME],
    replicas: Annotated[int, typer.Argument(help="How many engines serve the model.")],
    max_replicas: Annotated[
        int | None, typer.Option(help="Start up to this many under load; REPLICAS is then the minimum.")
    ] = None,
    target_running: Annotated[
        int | None, typer.Option(help="Requests that each replica should run at once. Default: unchanged.")
    ] = None,
) -> None:
    """Change how many engines serve a model. A running Parley starts or stops them without dropping requests.

    Examples:

      parley models scale support-v3 2

      parley models scale support-v3 1 --max-replicas 4 --target-running 16
    """
    from models.registry.scaling import scale_model

    with open_home() as home:
        options = scale_model(home.registry, name, replicas, max_replicas, target_running).engine
    count = f"{options.replicas} to {options.most_replicas}" if options.max_replicas else str(options.replicas)
    console().print(f"{name} is served by {count} engine{'s' * (options.most_replicas > 1)} from now on.")


def models_fallbacks(
    name: Annotated[str, _NAME],
    fallbacks: Annotated[
        list[str] | None, typer.Argument(help="The ids of the fallbacks, the first choice first. Without any: none.")
    ] = None,
) -> None:
    """Set the models that answer while this one is down or starting. Two models can be each other's fallback.

    Example:

      parley models fallbacks support-a support-b
    """
    from models.registry.fallbacks import set_fallbacks

    with open_home() as home:
        spec = set_fallbacks(home.registry, name, fallbacks or ())
    console().print(f"Fallbacks of {spec.id}: {', '.join(spec.fallbacks) or 'none'}.")


def models_pin(name: Annotated[str, _NAME]) -> None:
    """Keep a model's engine in memory: start it if it is stopped, and never stop it to make room for another."""
    with open_home() as home:
        spec = home.registry.pin(name)
    console().print(f"{spec.id} is pinned: its engine stays in memory.")


def models_unpin(name: Annotated[str, _NAME]) -> None:
    """Allow a model's engine to be stopped when another model needs the memory."""
    with open_home() as home:
        spec = home.registry.unpin(name)
    console().print(f"{spec.id} is not pinned any more.")


def parity_table(parity: "Parity") -> Any:
    """A comparison's measurements as a Rich table of two columns."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_row("probes", f"{parity.probes}, {parity.tokens:,} positions; {escape(parity.source)}")
    if parity.difference is not None:
        table.add_row("float32", f"logits within {parity.difference:.1e}, {parity.same_greedy} greedy answers the same")
    table.add_row(parity.dtype, f"{parity.agreement:.2%} the same token, divergence {parity.kl:.1e} nats per token")
    if parity.served is None:
        table.add_row("vLLM", f"not measured: {escape(parity.not_served or 'not yet')}")
    else:
        served = parity.served
        exact = f"{served.same_text} of {served.asked} answers identical"
        table.add_row("vLLM", f"{served.agreement:.2%} of {served.tokens:,} tokens; {exact}")
    table.add_row("", f"[red]refused: {escape(parity.refused)}[/red]" if parity.refused else "[green]passed[/green]")
    return table


def _alias_names(registry: "Registry") -> dict[str, list[str]]:
    """Model id → its aliases, with the share of a split alias."""
    names: dict[str, list[str]] = {}
    weights = registry.alias_weights()
    for alias, target in registry.aliases().items():
        parts = weights.get(alias, {target: 1.0})
        total = sum(parts.values())
        for model, weight in parts.items():
            share = f" {100 * weight / total:.3g} %" if len(parts) > 1 else ""
            names.setdefault(model, []).append(f"{alias}{share}")
    return names


def _engine_options(spec: "ModelSpec") -> str:
    """The engine's options that differ from the defaults."""
    values = spec.engine.model_dump(exclude_defaults=True)
    if template := values.get("chat_template"):
        values["chat_template"] = f"of {len(template):,} characters"
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _price(spec: "ModelSpec") -> str | None:
    """What a hosted model costs; None where no price is registered."""
    upstream = spec.upstream
    if upstream is None or upstream.usd_per_million_input is None or upstream.usd_per_million_output is None:
        return None
    return f"${upstream.usd_per_million_input:g} in, ${upstream.usd_per_million_output:g} out, per million tokens"
