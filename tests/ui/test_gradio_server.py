"""Parts of Gradio that the page does not start: unused imports, type stubs, and all but one server per app."""

import subprocess
import sys
from pathlib import Path

import pytest

_START = """
import sys
from pathlib import Path
from models.database import upgrade
from models.settings.settings import load_settings
settings = load_settings(home=Path(sys.argv[1]))
upgrade(settings)
from ui.page import build
from ui.gradio_server import import_gradio
import_gradio()
import gradio.component_meta
import gradio.routes
created = []
create = gradio.routes.App.create_app
def counted(*arguments, **options):
    created.append(create(*arguments, **options))
    return created[-1]
gradio.routes.App.create_app = staticmethod(counted)
build(settings)
print(len(created), "mcp" in sys.modules, "scipy.stats" in sys.modules)
print(gradio.component_meta.create_or_modify_pyi(object, "Button", []))
"""


@pytest.mark.long
def test_the_page_starts_without_what_it_does_not_use(tmp_path: Path) -> None:
    started = subprocess.run(
        [sys.executable, "-c", _START, str(tmp_path)], capture_output=True, text=True, check=False, timeout=120
    )
    assert started.stdout.split() == ["4", "False", "False", "None"], started.stderr
