"""The project's structure: allowed imports, light modules, file sizes, and the owner of each library."""

import ast
import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import parley

ROOT = Path(__file__).parent.parent
ROOMS = ("models", "serve", "train", "evals", "ui")
MAY_IMPORT = {
    "models": {"models"},
    "serve": {"serve", "models"},
    "train": {"train", "models"},
    "evals": {"evals", "models"},
    "ui": {"ui", "serve", "train", "evals", "models"},
}
HEAVY = ("torch", "vllm", "gradio", "transformers", "ray")
# A library that belongs to one room; `ui` may start its own server, which is the second user of uvicorn.
BELONGS = {
    "aiohttp": {"serve"},
    "uvicorn": {"serve", "ui"},
    "torch": {"train"},
    "transformers": {"train"},
    "peft": {"train"},
    "trl": {"train"},
    "bitsandbytes": {"train"},
    "together": {"train"},
    "huggingface_hub": {"train"},
    "evalica": set(),
    "scipy": {"evals"},
    "gradio": {"ui"},
    "ray": {"serve"},
    "vllm": {"serve"},  # its plugins, which vLLM loads in its own processes
}


def modules(*rooms: str) -> Iterator[Path]:
    for room in rooms:
        yield from sorted((ROOT / room).rglob("*.py"))


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """The nodes of a file's syntax tree, the module first."""
    return tuple(ast.walk(ast.parse(path.read_text())))


def module(path: Path) -> ast.Module:
    root = nodes(path)[0]
    assert isinstance(root, ast.Module)
    return root


@cache
def imports(path: Path) -> frozenset[str]:
    """The top-level names that a file imports anywhere, inside functions too."""
    imported: set[str] = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            imported.add(node.module.split(".")[0])
    return frozenset(imported)


@pytest.mark.long
@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_it_may(room: str) -> None:
    wrong = {
        str(path.relative_to(ROOT)): sorted(others)
        for path in modules(room)
        if (others := (imports(path) & {*ROOMS, "parley", "bench", "tests"}) - MAY_IMPORT[room])
    }
    assert not wrong


@pytest.mark.parametrize("library", sorted(BELONGS))
def test_a_library_is_touched_by_its_room_alone(library: str) -> None:
    users = {path.relative_to(ROOT).parts[0] for path in modules(*ROOMS) if library in imports(path)}
    assert users <= BELONGS[library]


def test_only_models_reads_environment_variables() -> None:
    readers = [
        str(path.relative_to(ROOT))
        for path in modules(*ROOMS)
        for node in nodes(path)
        if isinstance(node, ast.Attribute)
        and node.attr in ("environ", "getenv")
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
    ]
    # The guardian hands its own environment on to the program that it starts, unread.
    # The fetch of an OpenAI account also runs without Parley, so without its settings.
    allowed = {f"models/settings/{name}.py" for name in ("settings", "environment", "hub")}
    assert set(readers) <= allowed | {"models/openai_fetch/account.py"}


def loaded_after(statements: list[str]) -> dict[str, set[str]]:
    """Statement → top-level modules loaded by then, in one fresh interpreter that runs them in order."""
    code = "import json, sys\nloaded = {}\n" + "".join(
        f"{statement}\nloaded[{statement!r}] = [name.partition('.')[0] for name in sys.modules]\n"
        for statement in statements
    )
    run = subprocess.run(
        [sys.executable, "-c", f"{code}print()\nprint(json.dumps(loaded))"],
        capture_output=True, text=True, cwd=ROOT, check=True,
    )  # fmt: skip
    return {name: set(names) for name, names in json.loads(run.stdout.splitlines()[-1]).items()}


@pytest.mark.long
def test_light_things_load_nothing_heavy() -> None:
    statements = [
        "import parley",
        "import parley; parley.build()",
        *(f"import {room}" for room in ROOMS),
        *(f"import {room}.tables" for room in ROOMS if (ROOT / room / "tables.py").exists()),
        *(f"import {room}.api" for room in ROOMS if (ROOT / room / "api.py").exists()),
        "import serve.gateway.app",
        "import serve.launcher.parent",
        # What vLLM serves is read from its source.
        "from models.compatibility.lora_support import supports_lora; supports_lora('MistralForCausalLM')",
        # The worker's process stays small: what loads torch runs in a process of its own.
        *(f"import {handler.partition(':')[0]}" for handler in parley.JOB_HANDLERS.values()),
    ]
    # They share an interpreter, so the first statement listed is the one that loads something heavy.
    heavy = {statement: loaded & set(HEAVY) for statement, loaded in loaded_after(statements).items()}
    assert not {statement: names for statement, names in heavy.items() if names}


@pytest.mark.long
def test_help_loads_nothing_heavy() -> None:
    statement = (
        "import sys, parley\nsys.argv = ['parley', '--help']\ntry:\n    parley.main()\nexcept SystemExit:\n    pass"
    )
    assert not loaded_after([statement])[statement] & set(HEAVY)


@pytest.mark.long
def test_every_file_says_what_it_is_for_and_is_short() -> None:
    silent, long = [], []
    for path in [*modules(*ROOMS, "bench", "tests"), ROOT / "parley.py"]:
        text = path.read_text()
        if text.strip() and not ast.get_docstring(module(path)):
            silent.append(str(path.relative_to(ROOT)))
        if len(text.splitlines()) > 400:
            long.append(str(path.relative_to(ROOT)))
    assert not silent
    assert not long


def test_there_is_no_junk_drawer() -> None:
    drawers = {"utils", "util", "common", "misc", "helpers", "helper"}
    assert not [path for path in modules(*ROOMS, "bench", "tests") if {path.stem, *path.parts} & drawers]


def test_nothing_happens_on_import() -> None:
    """At module level there are imports, definitions, constants and docstrings: no loop, no bare call, no global."""
    allowed = (
        ast.Import,
        ast.ImportFrom,
        ast.FunctionDef,
        ast.AsyncFunctionDef,
        ast.ClassDef,
        ast.Assign,
        ast.AnnAssign,
    )
    wrong = []
    for path in modules(*ROOMS):
        for node in module(path).body:
            if isinstance(node, allowed) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
                continue
            if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "__name__ == '__main__'"):
                continue
            wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}")
        wrong += [
            f"{path.relative_to(ROOT)}:{node.lineno} global" for node in nodes(path) if isinstance(node, ast.Global)
        ]
    assert not wrong


@pytest.mark.long  # it imports torch
@pytest.mark.parametrize("room", ROOMS)
def test_the_public_api_of_a_room_resolves(room: str) -> None:
    package = importlib.import_module(room)
    missing = [name for name in getattr(package, "__all__", ()) if not hasattr(package, name)]
    assert not missing
