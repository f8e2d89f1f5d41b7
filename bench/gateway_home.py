"""The home that `bench.gateway` runs Parley over: one model whose engine is somewhere, and a key with limits."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.gateway_arms import Upstream
from models.database import open_database, upgrade
from models.keys import KeyLimits, create_key
from models.registry import Registry
from models.settings import Settings, child_environment, load_settings
from models.spec import ModelSpec
from serve.fleet.engine_states import EngineStatus, write_statuses
from serve.fleet.vllm_command import free_port

# So much that no request of the bench meets them, and every one is counted.
GENEROUS = KeyLimits(requests_per_minute=10**9, tokens_per_minute=10**12, daily_tokens=10**14)


@dataclass(frozen=True)
class Home:
    """Settings with that home, the environment that a process of ours needs for it, and a client's key."""

    settings: Settings
    environment: dict[str, str]
    key: str


def home_over(folder: Path, upstream: Upstream, **settings: Any) -> Home:
    """A home in which an engine is said to be ready at the upstream's address."""
    home = new_home(folder, **settings)
    weights = folder / "weights"
    weights.mkdir()
    (weights / "model.safetensors").touch()
    database = open_database(home.settings)
    try:
        Registry(database).register(ModelSpec(id=upstream.model, kind="base", path=str(weights)))
        write_statuses(database, [EngineStatus(upstream.model, "ready", upstream.address)])
    finally:
        database.dispose()
    return home


def new_home(folder: Path, **settings: Any) -> Home:
    """A home with no model and one key."""
    folder.mkdir(parents=True)
    chosen = load_settings(home=folder, port=free_port(), log_level="warning", **settings)
    upgrade(chosen)
    database = open_database(chosen)
    try:
        key = create_key(database, name="bench", role="client", limits=GENEROUS)
    finally:
        database.dispose()
    return Home(chosen, child_environment(chosen), key)
