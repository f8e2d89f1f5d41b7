"""What every room shares: model specs, registry, settings, database, errors, messages, keys, jobs and files.

Names resolve lazily: `from models import Registry` loads only `models.registry`. This package imports no other room.
"""

from importlib import import_module
from typing import Any

_MODULES = {
    "Settings": "settings", "load_settings": "settings",
    "Database": "database", "open_database": "database", "upgrade": "database",
    "ModelSpec": "spec", "EngineOptions": "spec", "Upstream": "spec", "BotProfile": "spec",
    "Parity": "spec", "ServedParity": "spec",
    "Registry": "registry",
    "Files": "files", "StoredFile": "files", "Uploads": "uploads",
    "KeyInfo": "keys", "KeyLimits": "keys", "create_key": "keys", "list_keys": "keys", "revoke_key": "keys",
    "Usage": "usage", "read_usage": "usage",
    "ParleyError": "errors",
    "Message": "messages", "Completion": "messages", "Completer": "messages",
    "GatewayCompleter": "completer", "gateway_completer": "completer",
    "reserve_memory": "jobs", "release_memory": "jobs",
    "retry_delay": "errors",
    "Rubric": "judge_prompt",
}  # fmt: skip

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'models' has no attribute {name!r}")
    return getattr(import_module(f"models.{_MODULES[name]}"), name)
