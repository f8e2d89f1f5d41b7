"""Builds `.clients`: the client libraries that Parley supports, each in an environment of its own.

openai-python 2.x and 3.x, LangChain's ChatOpenAI, LiteLLM, and instructor, pydantic-ai and llm together
(requirements/clients-*.txt); openai and Vercel's ai for Node with a suitable Node (tests/clients/package.json), because
the system's may be older. `make clients` calls it; complete environments are kept. `make clients-more` adds
lm-evaluation-harness and llama-index, which are large.
"""

import hashlib
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CLIENTS = ROOT / ".clients"
PYTHON_CLIENTS = ("openai-2", "openai-3", "langchain", "litellm", "agents")
MORE = ("lm-eval", "llama-index")
NODE_FILES = ("package.json", "package-lock.json")


class Refused(Exception):
    """An installation problem, in one line."""


def main() -> int:
    """Installs the pinned clients into `.clients`; returns the exit status."""
    return run_installation(_install)


def run_installation(install: Callable[[], None]) -> int:
    """Runs it, prints a refusal or an interruption as one line, and returns the exit status."""
    try:
        install()
    except Refused as refusal:
        print(f"parley: {refusal}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nparley: stopped; run it again.", file=sys.stderr)
        return 130
    return 0


def _install() -> None:
    for name in (*PYTHON_CLIENTS, *(MORE if "--more" in sys.argv else ())):
        install_python(CLIENTS / name, ROOT / "requirements" / f"clients-{name}.txt")
    install_node(CLIENTS / "node", ROOT / "tests" / "clients")


def install_python(folder: Path, pins: Path, purpose: str = "the clients' tests") -> None:
    """Creates a virtual environment with exactly these pins."""
    content = pins.read_bytes()
    if is_there(folder, content):
        return
    print(f"Installing {folder.name} for {purpose}")
    venv.create(folder, clear=True, with_pip=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--no-deps", "--no-input", "--quiet"]
    run([*pip, "--disable-pip-version-check", "-r", str(pins)], ROOT)
    stamp(folder, content)


def install_node(folder: Path, described: Path) -> None:
    """Installs `node_modules` as pinned in the lock file."""
    content = b"".join((described / name).read_bytes() for name in NODE_FILES)
    if is_there(folder, content):
        return
    npm = shutil.which("npm")
    if npm is None:
        raise Refused("npm is missing: `make system` installs it (Debian: apt-get install npm).")
    print("Installing openai for Node for the clients' tests")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in NODE_FILES:
        shutil.copy(described / name, folder / name)
    run([npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"], folder)
    stamp(folder, content)


def run(command: list[str], folder: Path) -> None:
    """Runs an installer.

    Raises:
        Refused: it failed; the message has the reason.
    """
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refused(reason(done.stdout + done.stderr))


def reason(output: str) -> str:
    """The reason for a failure, from an installer's output, in one line."""
    if "No space left" in output or "ENOSPC" in output:
        return "The disk is full: free some space and try again."
    missing = re.search(
        r"No matching distribution found for (\S+)|notarget No matching version found for (\S+)", output
    )
    if missing:
        return f"There is no package {(missing[1] or missing[2]).rstrip('.')} in the index."
    if re.search(r"connection|resolve|timed out|network|ENOTFOUND|ECONN", output, re.IGNORECASE):
        return "The package index cannot be reached: check the network, then try again."
    lines = [line.strip() for line in output.splitlines() if re.search(r"error", line, re.IGNORECASE)]
    return f"A client library could not be installed: {lines[-1] if lines else 'the installer gave no reason'}"


def is_there(folder: Path, content: bytes) -> bool:
    """Whether the pinned packages are completely installed there."""
    mark = folder / ".installed"
    return mark.is_file() and mark.read_text() == hashlib.sha256(content).hexdigest()


def stamp(folder: Path, content: bytes) -> None:
    """Marks the installation as complete."""
    (folder / ".installed").write_text(hashlib.sha256(content).hexdigest())


if __name__ == "__main__":
    sys.exit(main())
