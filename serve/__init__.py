"""Serving: `parley up`, vLLM engines as programs, and the gateway that speaks OpenAI's API in front of them.

This index is resolved lazily: `import serve` loads nothing heavy, and vLLM itself is never imported, only started.

    start(settings, ...) -> Running     `parley up` as a process of its own: .wait_ready(), .stop(), .kill()
    up(settings, ...)                   the same in this process, until Ctrl-C: what `parley up` runs
    model_states(database)              model id -> ModelState(state, message), for every served model
    report(settings, database)          processes and models with their state, as `parley status --json` has it
    examine(settings)                   what `parley doctor` finds: a list of Finding(name, state, found, advice)
    create_app(settings, database)      the gateway as an ASGI application, with other rooms' routes mounted
    openapi_document(mounts)            the OpenAPI document of the gateway's routes and those of other rooms
    openai_fine_tunes(settings)         the fine-tuned models of an OpenAI account
    generate(post, rows, journal)       every row of `read_rows(file)` asked, many at once: what `parley generate` runs
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "start": "launcher.up_process", "Running": "launcher.up_process",
    "up": "launcher.parent", "UpOptions": "launcher.parent",
    "model_states": "fleet.engine_states", "ModelState": "fleet.engine_states",
    "report": "launcher.status", "examine": "launcher.doctor", "Finding": "launcher.doctor",
    "create_app": "gateway.app",
    "openapi_document": "openapi.document",
    "openai_fine_tunes": "openai_import", "register_fine_tune": "openai_import", "FineTune": "openai_import",
    "generate": "bulk.generation", "Generated": "bulk.generation", "Journal": "bulk.journal", "read_rows": "bulk.rows",
}  # fmt: skip

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'serve' has no attribute {name!r}")
    return getattr(import_module(f"serve.{_HOMES[name]}"), name)
