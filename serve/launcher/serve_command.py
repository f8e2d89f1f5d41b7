"""`parley serve`: the gateway and the engines alone, without page and worker, over models that are named in place."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from models.errors import Conflict, Invalid

if TYPE_CHECKING:
    from models.settings import Settings
    from models.spec import ModelSpec

_MODELS, _DOOR, _MEMORY, _PATIENCE = "What is served", "The door", "Device and memory", "Timeouts and limits"


def serve_command(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            help="Each a model that is registered already, a folder of safetensors, or a hub id such as "
            "Qwen/Qwen3-4B. NAME=FOLDER gives it another name than its folder's. Without any: what is registered.",
            metavar="[MODEL | FOLDER | NAME=FOLDER]…",
        ),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            help="For folders that are adapters: the id of the model that they hang on.", rich_help_panel=_MODELS
        ),
    ] = None,
    max_model_len: Annotated[
        int | None, typer.Option(help="Context length in tokens; the model's own without it.", rich_help_panel=_MODELS)
    ] = None,
    dtype: Annotated[str, typer.Option(help="auto, bfloat16, float16 or float32.", rich_help_panel=_MODELS)] = "auto",
    tool_call_parser: Annotated[
        str | None,
        typer.Option(
            help="vLLM's parser of tool calls. Without it: by the model's family; none: no tools.",
            rich_help_panel=_MODELS,
        ),
    ] = None,
    reasoning_parser: Annotated[
        str | None,
        typer.Option(
            help="vLLM's parser of reasoning. Without it: by the model's family; none: none.", rich_help_panel=_MODELS
        ),
    ] = None,
    trust_remote_code: Annotated[
        bool, typer.Option(help="Run code that comes with the weights.", rich_help_panel=_MODELS)
    ] = False,
    pin: Annotated[
        bool,
        typer.Option(
            help="Keep the engines of the models named here in memory, whoever else asks for room.",
            rich_help_panel=_MODELS,
        ),
    ] = False,
    home: Annotated[
        Path | None, typer.Option(help="The folder that holds everything (PARLEY_HOME).", rich_help_panel=_DOOR)
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(help="The gateway's address: 127.0.0.1. Wider than loopback needs a key.", rich_help_panel=_DOOR),
    ] = None,
    port: Annotated[int | None, typer.Option(help="The gateway's port: 8000.", rich_help_panel=_DOOR)] = None,
    make_owner_key: Annotated[
        bool, typer.Option(help="Make an owner's key and print it, where there is no key yet.", rich_help_panel=_DOOR)
    ] = False,
    device: Annotated[
        str | None,
        typer.Option(help="auto, cpu or cuda; auto takes an NVIDIA GPU where there is one.", rich_help_panel=_MEMORY),
    ] = None,
    gpu_memory_share: Annotated[
        float | None,
        typer.Option(help="The share of each GPU that all engines on it may take: 0.9.", rich_help_panel=_MEMORY),
    ] = None,
    cpu_kv_cache_gib: Annotated[
        float | None, typer.Option(help="GiB of KV cache on a CPU, all engines together: 1.", rich_help_panel=_MEMORY)
    ] = None,
    engine_memory_gib: Annotated[
        float | None,
        typer.Option(
            help="GiB for all engines on a CPU together; without it: what is free. Models beyond it take turns.",
            rich_help_panel=_MEMORY,
        ),
    ] = None,
    engine_start_timeout_s: Annotated[
        float | None, typer.Option(help="Seconds an engine may take to become ready: 300.", rich_help_panel=_PATIENCE)
    ] = None,
    queue_wait_s: Annotated[
        float | None,
        typer.Option(help="Seconds a request waits for a model that starts: 30.", rich_help_panel=_PATIENCE),
    ] = None,
    queue_size: Annotated[
        int | None,
        typer.Option(
            help="Requests that may wait for one model: 64. The next one gets a 429.", rich_help_panel=_PATIENCE
        ),
    ] = None,
    running_per_model: Annotated[
        int | None, typer.Option(help="Requests that run at once on one engine: 1024.", rich_help_panel=_PATIENCE)
    ] = None,
    connect_timeout_s: Annotated[
        float | None,
        typer.Option(help="Seconds until a connection to an engine is there: 5.", rich_help_panel=_PATIENCE),
    ] = None,
    first_byte_timeout_s: Annotated[
        float | None, typer.Option(help="Seconds until an answer's first byte: 600.", rich_help_panel=_PATIENCE)
    ] = None,
    idle_timeout_s: Annotated[
        float | None,
        typer.Option(help="Seconds of silence in the middle of an answer: 300.", rich_help_panel=_PATIENCE),
    ] = None,
    total_timeout_s: Annotated[
        float | None, typer.Option(help="Seconds a whole answer may take: 3600.", rich_help_panel=_PATIENCE)
    ] = None,
    drain_timeout_s: Annotated[
        float | None,
        typer.Option(
            help="Seconds running requests may take to end before an engine is stopped all the same: 60.",
            rich_help_panel=_PATIENCE,
        ),
    ] = None,
    stop_grace_s: Annotated[
        float | None,
        typer.Option(
            help="Seconds running answers get at Ctrl-C; a second one is at once: 15.", rich_help_panel=_PATIENCE
        ),
    ] = None,
) -> None:
    """Serve models behind OpenAI's API: gateway and engines, without page and worker. Ctrl-C stops it.

    What is named and not registered yet is registered, and is there at the next start too. Models that do not fit
    into memory together take turns: the one that was not asked for longest makes room. docs/settings.md has the rest.

    Examples:

      parley serve Qwen/Qwen3-4B

      parley serve support=/data/support-merged --port 9000 --max-model-len 8192

      parley serve /data/llama-3.2-1b /data/support-lora --base llama-3.2-1b

    Then, from any program: OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="any")
    """
    from models.settings import load_settings
    from serve.launcher.parent import up

    settings = load_settings(
        home=home, host=host, port=port, device=device, gpu_memory_share=gpu_memory_share,
        cpu_kv_cache_gib=cpu_kv_cache_gib, engine_memory_gib=engine_memory_gib,
        engine_start_timeout_s=engine_start_timeout_s, queue_wait_s=queue_wait_s, queue_size=queue_size,
        running_per_model=running_per_model, connect_timeout_s=connect_timeout_s,
        first_byte_timeout_s=first_byte_timeout_s, idle_timeout_s=idle_timeout_s, total_timeout_s=total_timeout_s,
        drain_timeout_s=drain_timeout_s, stop_grace_s=stop_grace_s,
    )  # fmt: skip
    engine = {
        "max_model_len": max_model_len, "dtype": dtype, "trust_remote_code": trust_remote_code,
        "tool_call_parser": tool_call_parser, "reasoning_parser": reasoning_parser,
    }  # fmt: skip

    def prepare(settings: "Settings", say: Callable[[str], None]) -> None:
        register(settings, models or [], base, engine, say, pin=pin)

    up(settings, prepare=prepare, page=False, worker=False, make_owner_key=make_owner_key)


def register(
    settings: "Settings",
    wanted: list[str],
    base: str | None,
    engine: dict[str, Any],
    say: Callable[[str], None],
    *,
    pin: bool = False,
) -> "list[ModelSpec]":
    """Registers what is not registered yet, in the order in which it is named; returns all that was named.

    Raises:
        Invalid: something is no model; Conflict: a name is another model's already.
    """
    from models.database import open_database
    from models.registry import Registry

    database = open_database(settings)
    try:
        registry = Registry(database)
        found = [_one(registry, name, base, engine, say) for name in wanted]
        for spec in found:
            if pin and spec.kind in ("base", "merged"):
                registry.pin(spec.id)
        return found
    finally:
        database.dispose()


def _one(
    registry: Any, given: str, base: str | None, engine: dict[str, Any], say: Callable[[str], None]
) -> "ModelSpec":
    from models.registry import parse_spec
    from models.weights import guess_kind, read_lora_rank

    name, equals, place = given.partition("=")
    if not equals:
        place = given
        folder = Path(place).expanduser()
        name = folder.absolute().name if folder.is_dir() else place
    folder = Path(place).expanduser()
    path = str(folder.absolute()) if folder.is_dir() else place
    known = {spec.id: spec for spec in registry.list(include_candidates=True, include_retired=True)}
    target = registry.aliases().get(name, name)
    if target in known:
        spec = known[target]
        if spec.state == "retired":
            raise Conflict(
                f"The model {name!r} is retired, and a name is never used again: give it another, NAME=PLACE."
            )
        if (equals or folder.is_dir()) and spec.path != path:
            raise Conflict(f"The name {name!r} is another model's already: give it another, NAME={place}.")
        return spec
    if not equals and not folder.is_dir() and "/" not in place:
        raise Invalid(
            f"{place!r} is neither a registered model nor a folder here nor a hub id such as Qwen/Qwen3-4B.",
            param="models",
        )
    # `--base` is for adapters: what has weights of its own is served as it is, whatever it was made from.
    kind = guess_kind(path, None)
    on = base if kind == "adapter" else None
    spec = parse_spec(id=name, kind=kind, path=path, base=on, lora_rank=read_lora_rank(path), engine=engine)
    registry.register(spec)
    say(f"{spec.id} is registered as {spec.kind}")
    return spec
