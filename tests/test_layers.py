"""The layers inside the rooms: files and folders import downward only, and never in a circle.

Every import counts, also one inside a function or for types only.
"""

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Each room from the bottom to the top. A folder has a slash; each line is one layer, whose members do not
# import one another.
LAYERS: dict[str, tuple[str, ...]] = {
    "models": (
        "clock errors likeness chart_svg html_page json_files quantities",
        "settings/ weights chat_templates/ openai_fetch/",
        "database evaluation_events command_help command_options",
        "tables home/",
        "audit chat/ files/",
        "spec",
        "compatibility/ usage demo/ jobs/ http/",
        "registry/",
        "keys terminal backup/ api_operations",
        "management/ completions/",
        "api commands/",
        "cli",
    ),
    "serve": (
        "tables transport/ processes/ bulk/ openai_import",
        "batches/",
        "accounting/ fleet/ validation/",
        "cluster/",
        "openapi/ launcher/ api_operations",
        "gateway/ api",
        "cli",
    ),
    "train": (
        "tables hyperparameters data/",
        "request",
        "run/ options",
        "trainers/ display",
        "publication/",
        "training",
        "nodes",
        "ray_job",
        "planning/ worker/",
        "demo/ finetuning/ clouds/ data_cli",
        "cli api_operations",
        "api",
    ),
    "evals": (
        "campaign_tables api_tables",
        "tables intervals request_pool",
        "votes/ scorers/",
        "ratings/ tasks/",
        "recordings/",
        "campaigns/",
        "served_models judges/ graders/",
        "reports/ served_runs",
        "eval_runs/",
        "exchange/",
        "commands/ jobs api_operations",
        "cli api",
    ),
    "ui": ("look/", "access/ backend/", "owners/ raters/ bot/ gradio_server", "page", "cli"),
}


@cache
def imports() -> dict[str, frozenset[str]]:
    """Module → the project's modules that it imports anywhere."""
    files = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for room in (*LAYERS, "bench")
        for path in (ROOT / room).rglob("*.py")
    }
    imported: dict[str, frozenset[str]] = {}
    for module, path in files.items():
        names: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names |= {
                    full if (full := f"{node.module}.{alias.name}") in files else node.module for alias in node.names
                }
        imported[module] = frozenset(names & files.keys() - {module})
    return imported


@pytest.mark.long
def test_no_file_imports_in_a_circle() -> None:
    try:
        TopologicalSorter(imports()).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("room", LAYERS)
def test_a_room_imports_downward(room: str) -> None:
    floors = {name: floor for floor, line in enumerate(LAYERS[room]) for name in line.split()}

    def part(module: str) -> str:
        """`run/` for train.run.checkpoints, `training` for train.training."""
        names = module.split(".")[1:]
        return f"{names[0]}/" if (ROOT / room / names[0]).is_dir() else names[0]

    modules = [module for module in imports() if module.startswith(f"{room}.")]
    assert {part(module) for module in modules} == floors.keys(), "LAYERS names what there is"
    upward = [
        f"{module} -> {imported}"
        for module in modules
        for imported in imports()[module]
        if imported.startswith(f"{room}.")
        and part(module) != part(imported)
        and floors[part(imported)] >= floors[part(module)]
    ]
    assert not upward
