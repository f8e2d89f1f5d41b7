"""Builds `.peers`: the gateways that `python -m bench.gateway` measures beside Parley's, an environment for each.

vllm-router (Rust) and LiteLLM's proxy (Python), pinned in requirements/peers-*.txt. `make bench-peers` calls it; what
is there it leaves alone. Nothing of Parley needs them.
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
    """Brings `.peers` to what the pins say."""
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
