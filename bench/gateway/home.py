"""The PARLEY_HOME of `bench.gateway`: a model whose engine is the bench's upstream, and a key with limits."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.gateway.targets import Upstream
from bench.gateway_process import register_engine
from models.database import open_database, upgrade
from models.keys import KeyLimits, create_key
from models.settings.environment import child_environment
from models.settings.settings import Settings, load_settings
from serve.fleet.vllm_command import free_port

# Never reached by the bench, but counted for every request.
UNREACHED_LIMITS = KeyLimits(requests_per_minute=10**9, tokens_per_minute=10**12, daily_tokens=10**14)


@dataclass(frozen=True)
class Home:
    """The home's settings, the environment for processes that use it, and a client's key."""

    settings: Settings
    environment: dict[str, str]
    key: str


def create_home_with_engine(folder: Path, upstream: Upstream, **settings: Any) -> Home:
    """A home in which an engine counts as ready at the upstream's address."""
    home = create_home(folder, **settings)
    database = open_database(home.settings)
    try:
        register_engine(home.settings, database, upstream.model, upstream.address)
    finally:
        database.dispose()
    return home


def create_home(folder: Path, **settings: Any) -> Home:
    """A home with one key and no model."""
    folder.mkdir(parents=True)
    chosen = load_settings(home=folder, port=free_port(), log_level="warning", **settings)
    upgrade(chosen)
    database = open_database(chosen)
    try:
        key = create_key(database, name="bench", role="client", limits=UNREACHED_LIMITS)
    finally:
        database.dispose()
    return Home(chosen, child_environment(chosen), key)
