"""`parley serve`: gateway and engines without page and worker, for models named on the command line."""

import os.path
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from models.command_options import settings_options
from models.commands.engine_flags import EngineFlags
from models.errors import Conflict, Invalid

if TYPE_CHECKING:
    from models.registry.registry import Registry
    from models.settings.settings import Settings
    from models.spec import ModelSpec

RayAddress = Annotated[
    str | None,
    typer.Option("--on", help="Run the engines on a Ray cluster: auto (the one of this machine), or ray://HOST:10001."),
]
_MODELS, _GATEWAY, _MEMORY, _LIMITS = "Models", "Gateway", "Device and memory", "Timeouts and limits"


@settings_options(
    {
        "home": _GATEWAY, "host": _GATEWAY, "port": _GATEWAY, "gateway_workers": _GATEWAY,
        "device": _MEMORY, "gpu_memory_share": _MEMORY, "cpu_kv_cache_gib": _MEMORY, "engine_memory_gib": _MEMORY,
        "engine_start_timeout_s": _LIMITS, "queue_wait_s": _LIMITS, "queue_size": _LIMITS, "running_per_model": _LIMITS,
        "connect_timeout_s": _LIMITS, "first_byte_timeout_s": _LIMITS, "idle_timeout_s": _LIMITS,
        "total_timeout_s": _LIMITS, "drain_timeout_s": _LIMITS, "stop_grace_s": _LIMITS,
    }
)  # fmt: skip
def serve_command(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            help="Registered models, folders of safetensors, or hub ids such as Qwen/Qwen3-4B. NAME=FOLDER sets the "
            "name; otherwise it is the folder's. Default: all registered models.",
            metavar="[MODEL | FOLDER | NAME=FOLDER]…",
        ),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(help="For folders with adapters: the id of their base model.", rich_help_panel=_MODELS),
    ] = None,
    pin: Annotated[
        bool,
        typer.Option(help="Never stop the engines of these models to make room for others.", rich_help_panel=_MODELS),
    ] = False,
    make_owner_key: Annotated[
        bool, typer.Option(help="Create an owner's key and print it if there is no key yet.", rich_help_panel=_GATEWAY)
    ] = False,
    on: RayAddress = None,
    engine: EngineFlags = EngineFlags(),
    **settings: Any,
) -> None:
    """Serve models behind OpenAI's API: gateway and engines, without page and worker. Ctrl-C stops it.

    Models that are not registered yet are registered and stay so. Models that do not fit into memory together take
    turns: the least recently used one makes room. docs/settings.md lists all settings.

    Examples:

      parley serve Qwen/Qwen3-4B

      parley serve support=/data/support-merged --port 9000 --max-model-len 8192

      parley serve /data/llama-3.2-1b /data/support-lora --base llama-3.2-1b

    Then, from any program: OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="any")
    """
    from models.settings.settings import load_settings
    from serve.launcher.parent import up

    options = ModelOptions(base, engine.options(), pin)

    def prepare(settings: "Settings", report: Callable[[str], None]) -> None:
        register(settings, models or [], options, report)

    up(
        load_settings(**settings, ray_address=on),
        prepare=prepare,
        page=False,
        worker=False,
        make_owner_key=make_owner_key,
    )


@dataclass(frozen=True)
class ModelOptions:
    """How models are registered: the base of adapters, the engine options, and whether to pin the engines."""

    base: str | None
    engine: Mapping[str, Any]
    pin: bool = False


def register(
    settings: "Settings", models: Sequence[str], options: ModelOptions, report: Callable[[str], None]
) -> "list[ModelSpec]":
    """Registers the models that are not registered yet, in order; returns the specs of all of them.

    Raises:
        Invalid: an argument is not a model; Conflict: a name belongs to another model.
    """
    from models.database import open_database
    from models.registry.registry import Registry

    database = open_database(settings)
    try:
        registry = Registry(database)
        specs = [_register_model(registry, model, options, report) for model in models]
        for spec in specs:
            if options.pin and spec.kind in ("base", "merged"):
                registry.pin(spec.id)
        return specs
    finally:
        database.dispose()


def _register_model(
    registry: "Registry", argument: str, options: ModelOptions, report: Callable[[str], None]
) -> "ModelSpec":
    from models.compatibility.folder_checks import expand_user
    from models.registry.new_model import NewModel
    from models.weights import guess_kind

    name, equals, source = argument.partition("=")
    if not equals:
        source = argument
    folder = expand_user(source)
    is_folder = os.path.isdir(folder)
    if not equals:
        name = folder.absolute().name if is_folder else source
    path = str(folder.absolute()) if is_folder else source
    specs = {spec.id: spec for spec in registry.list(include_candidates=True, include_retired=True)}
    target = registry.aliases().get(name, name)
    if target in specs:
        spec = specs[target]
        if spec.state == "retired":
            raise Conflict(
                f"The model {name!r} is retired, and its name cannot be reused. Choose another with NAME={source}."
            )
        if (equals or is_folder) and spec.path != path:
            raise Conflict(f"The name {name!r} belongs to another model. Choose another with NAME={source}.")
        return spec
    if not equals and not is_folder and "/" not in source:
        raise Invalid(
            f"{source!r} is not a registered model, a folder, or a hub id such as Qwen/Qwen3-4B.", param="models"
        )
    # The base and the engine's options are for some of the models: an adapter has no engine, and only it has a base.
    adapter = guess_kind(path, None) == "adapter"
    new = NewModel(name, path=path, base=options.base if adapter else None, engine={} if adapter else options.engine)
    spec = new.register(registry)
    report(f"{spec.id} is registered as {spec.kind}")
    return spec
