"""Runs the client programs of this folder, each with an SDK in an environment of its own.

The programs are what a user would write; they take the address and key from the variables that every OpenAI SDK reads.
"""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
CLIENTS = HERE.parent.parent / ".clients"
SDKS = ("openai-2", "openai-3", "node")


@dataclass(frozen=True)
class Server:
    """The server of a program: address, key, a chat model, and a model that can be fine-tuned."""

    base_url: str
    key: str
    chat: str
    tunable: str


def run(sdk: str, program: str, server: Server, *arguments: str | Path, timeout_s: float = 120) -> dict[str, Any]:
    """Runs `program` (chat, files, …); returns the JSON that it printed.

    A missing environment is a failure, not a skip.
    """
    done = run_command([*command_of(sdk, program), *map(str, arguments)], server, timeout_s)
    assert not done.stderr, f"{program} with {sdk} printed warnings: {done.stderr}"
    return json.loads(done.stdout)


def run_text(language: str, program: str, server: Server) -> str:
    """Runs the text of a Python or JavaScript program of the docs; returns what it printed."""
    if language == "python":
        return run_command([CLIENTS / "agents" / "bin" / "python", "-c", program], server).stdout.strip()
    with tempfile.NamedTemporaryFile(
        "w", suffix=".mjs", dir=CLIENTS / "node"
    ) as file:  # packages are searched beside it
        file.write(program)
        file.flush()
        return run_command([_node(CLIENTS / "node"), file.name], server).stdout.strip()


def run_command(
    command: Sequence[str | Path], server: Server, timeout_s: float = 120, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Runs a command with the variables that every OpenAI SDK reads."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "PYTHON"))}
    environment |= {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": server.key} | variables
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done


def command_of(sdk: str, program: str) -> list[str]:
    """The command that runs a program with one SDK."""
    folder = CLIENTS / sdk
    if not (folder / ".installed").is_file():
        pytest.fail(f"{folder.name} is not in .clients: run `make clients`.")
    if sdk != "node":
        return [str(folder / "bin" / "python"), str(HERE / f"{program}.py")]
    # Node searches packages beside the program, so a copy is run there.
    copy = folder / f"{program}.mjs"
    shutil.copy(HERE / copy.name, copy)
    return [_node(folder), str(copy)]


def _node(folder: Path) -> str:
    """Node as it is installed beside the packages, else the machine's."""
    own = sorted((folder / "node_modules").glob("node-*/bin/node"))
    return str(own[0]) if own else "node"
