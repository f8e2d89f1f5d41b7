"""The web page: the owners' app at /, the raters' app at /vote, and one bot at /bot/<model>.

Names are resolved lazily, so that `import ui` does not load Gradio. Only `parley.py`, tests and benches import this
package.
"""

from importlib import import_module
from typing import Any

_MODULES = {"build": "page", "add_commands": "cli"}

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'ui' has no attribute {name!r}")
    return getattr(import_module(f"ui.{_MODULES[name]}"), name)
