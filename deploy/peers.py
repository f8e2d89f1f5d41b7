"""Builds `.peers`: the other gateways that `python -m bench.gateway` measures, each in its own environment.

vllm-router (Rust) and LiteLLM's proxy (Python), pinned in requirements/peers-*.txt. `make bench-peers` calls it;
complete environments are kept. Parley itself does not need them.
"""

import sys
from pathlib import Path

from clients import (  # type: ignore[import-not-found] -- the program beside this one
    install_python,
    run_installation,
)

ROOT = Path(__file__).resolve().parent.parent
PEERS = ("vllm-router", "litellm")


def main() -> int:
    """Installs the pinned gateways into `.peers`; returns the exit status."""
    return run_installation(_install)


def _install() -> None:
    for name in PEERS:
        install_python(ROOT / ".peers" / name, ROOT / "requirements" / f"peers-{name}.txt", "the gateway's bench")


if __name__ == "__main__":
    sys.exit(main())
