"""How handlers are hung on components here: without Gradio's spinner, and without a public API endpoint."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

QUIET: Mapping[str, Any] = MappingProxyType({"show_progress": "hidden", "api_visibility": "private"})
# For what happens in the browser alone.
BROWSER: Mapping[str, Any] = MappingProxyType({"fn": None, "queue": False, "api_visibility": "private"})
