"""Gradio's import and its servers, without the work that only other uses of Gradio need.

Gradio 6.31 spends more than half of the page's start on three things that the page does not use: it imports its MCP
server, it parses each component's source to write type stubs, and it creates a FastAPI server with 144 routes four
times for each app, of which only the last one is served.
"""

import contextlib
import importlib.abc
import importlib.machinery
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.types import ASGIApp

if TYPE_CHECKING:
    import gradio as gr

# Gradio's default of 40 limits how many answers can stream at once; a waiting stream costs no CPU.
_THREADS = 400
_STUBS_MODULE, _STUBS_FUNCTION = "gradio.component_meta", "create_or_modify_pyi"


def import_gradio() -> None:
    """Imports Gradio without its MCP server and without writing type stubs. Does nothing if it is imported."""
    if "gradio" in sys.modules:
        return
    finder, mcp = _StubsFinder(), sys.modules.get("mcp")
    sys.meta_path.insert(0, finder)
    sys.modules["mcp"] = None  # type: ignore[assignment] -- None makes the import fail, as where mcp is not installed
    try:
        import gradio  # noqa: F401 -- only loads it
    finally:
        sys.meta_path.remove(finder)
        del sys.modules["mcp"]
        if mcp is not None:
            sys.modules["mcp"] = mcp


@contextlib.contextmanager
def skip_intermediate_servers() -> Iterator[None]:
    """Layouts that are built inside get no server of their own: `create_gradio_server` creates the only one."""
    import gradio.blocks

    app = gradio.blocks.App
    gradio.blocks.App = _NoServer  # type: ignore[assignment] -- only `create_app` is called on it
    try:
        yield
    finally:
        gradio.blocks.App = app


def create_gradio_server(blocks: "gr.Blocks", path: str) -> tuple[ASGIApp, Callable[[Any], Any]]:
    """A Gradio server for `blocks` at `path`, and the lifespan that starts its queue."""
    import gradio as gr

    from ui.access.queue_guard import QueueGuard, refuse_wrong_inputs
    from ui.look.theme import parley_theme, style

    # Gradio reads both when the server starts; mount_gradio_app has no argument for them.
    blocks.max_threads = _THREADS
    blocks.queue(default_concurrency_limit=None, max_size=2000, api_open=False)
    blocks._queue.max_thread_count = _THREADS
    refuse_wrong_inputs(blocks)
    parent = Starlette()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a favicon for paths other than "/"; ours is at /brand
        gr.mount_gradio_app(
            parent,  # type: ignore[arg-type]  # it asks for FastAPI but uses only what Starlette has
            blocks,
            path=path,
            footer_links=[],
            run_history=False,
            # Errors go to the log: an error's text could reveal a model to a rater.
            show_error=False,
            ssr_mode=False,
            enable_monitoring=False,
            pwa=False,
            mcp_server=False,
            max_file_size="1mb",
            theme=parley_theme(),
            css=style(),
        )
    server = parent.routes[-1].app  # type: ignore[attr-defined] -- Starlette types a route by its base class
    blocks.app = server  # the queue runs its events there
    return QueueGuard(server, blocks), parent.router.lifespan_context


class _NoServer:
    @staticmethod
    def create_app(*_: Any, **__: Any) -> None:
        return None


class _StubsFinder(importlib.abc.MetaPathFinder):
    """Finds the module that writes type stubs, and replaces its function by one that writes none."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != _STUBS_MODULE:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                load(module)
                setattr(module, _STUBS_FUNCTION, lambda *_: None)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign] -- of this loader alone
        return spec
