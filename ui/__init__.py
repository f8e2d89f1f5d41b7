"""Everything a person touches in a browser: the owners' app, the raters' /vote, and /bot/<model>.

This index is resolved lazily, so that `import ui` loads no Gradio: `from ui import build` does. Nobody imports this
room but `parley.py`, tests and benches.
"""

from importlib import import_module
from typing import Any

_HOMES = {"build": "page", "add_commands": "cli"}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ui' has no attribute {name!r}")
    return getattr(import_module(f"ui.{_HOMES[name]}"), name)
