"""What every room shares: model specs, registry, settings, database, errors, messages, keys, jobs and files.

Names resolve lazily: `from models import Registry` loads only that class's module. This package imports no
other room.
"""

from importlib import import_module
from typing import Any

_MODULES = {
    "Settings": "settings.settings", "load_settings": "settings.settings",
    "Database": "database", "open_database": "database", "upgrade": "database",
    "ModelSpec": "spec", "EngineOptions": "spec", "Upstream": "spec", "BotProfile": "spec",
    "Parity": "spec", "ServedParity": "spec",
    "Registry": "registry.registry",
    "Files": "files.stored_files", "StoredFile": "files.stored_files", "Uploads": "files.uploads",
    "KeyInfo": "keys", "KeyLimits": "keys", "create_key": "keys", "list_keys": "keys", "revoke_key": "keys",
    "Usage": "usage", "read_usage": "usage",
    "ParleyError": "errors",
    "Message": "chat.messages", "Completion": "chat.messages", "Completer": "chat.messages",
    "GatewayCompleter": "chat.completer", "gateway_completer": "chat.completer",
    "reserve_memory": "jobs.jobs", "release_memory": "jobs.jobs",
    "retry_delay": "errors",
    "Rubric": "chat.judge_prompt",
}  # fmt: skip

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'models' has no attribute {name!r}")
    return getattr(import_module(f"models.{_MODULES[name]}"), name)
