"""Serving: `parley up`, vLLM engines as child processes, and the gateway with OpenAI's API in front of them.

Names are resolved lazily: `import serve` loads nothing heavy, and vLLM is never imported, only started.

    start(settings, ...) -> Running     `parley up` as a separate process: .wait_ready(), .stop(), .kill()
    up(settings, ...)                   the same in this process, until Ctrl-C: what `parley up` runs
    model_states(database)              model id -> ModelState(state, message), for every served model
    report(settings, database)          processes and models with their states, as in `parley status --json`
    examine(settings)                   the checks of `parley doctor`: a list of Finding(name, state, found, advice)
    create_app(settings, database)      the gateway as an ASGI application, with other rooms' routes mounted
    openapi_document(mounts)            the OpenAPI document of the gateway's routes and those of other rooms
    openai_fine_tunes(settings)         the fine-tuned models of an OpenAI account
    generate(post, rows, journal)       an answer for every row of `read_rows(file)`: what `parley generate` runs
"""

from importlib import import_module
from typing import Any

_MODULES = {
    "start": "launcher.up_process", "Running": "launcher.up_process",
    "up": "launcher.parent",
    "model_states": "fleet.engine_states", "ModelState": "fleet.engine_states",
    "report": "launcher.status", "examine": "launcher.doctor", "Finding": "launcher.doctor",
    "create_app": "gateway.app",
    "openapi_document": "openapi.document",
    "openai_fine_tunes": "openai_import", "register_fine_tune": "openai_import", "FineTune": "openai_import",
    "generate": "bulk.generation", "Generated": "bulk.generation", "Journal": "bulk.journal", "read_rows": "bulk.rows",
}  # fmt: skip

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'serve' has no attribute {name!r}")
    return getattr(import_module(f"serve.{_MODULES[name]}"), name)
