"""Builds `.peers`: the other gateways that `python -m bench.gateway` measures, each in its own environment.

vllm-router (Rust) and LiteLLM's proxy (Python), pinned in requirements/peers-*.txt. `make bench-peers` calls it;
complete environments are kept. Parley itself does not need them.
"""

import sys
from pathlib import Path

from clients import (  # type: ignore[import-not-found] -- the program beside this one
    Refused,
    install_python,
)

ROOT = Path(__file__).resolve().parent.parent
PEERS = ("vllm-router", "litellm")


def main() -> int:
    """Installs the pinned gateways into `.peers`; returns the exit status."""
    try:
        for name in PEERS:
            install_python(ROOT / ".peers" / name, ROOT / "requirements" / f"peers-{name}.txt", "the gateway's bench")
    except Refused as refusal:
        print(f"parley: {refusal}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nparley: stopped; run it again.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
