"""Inspects a model's chat template in a separate process: the end of a turn, and support of system messages.

The sandbox that renders a template limits neither time nor memory: `{{ 9**(9**9) }}` is computed while it is compiled
and blocks all threads. So servers never render a model's template themselves. Training does, because transformers
renders it there anyway.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

from models.chat_templates.tokenizer_files import read_added_tokens, read_named_tokens, read_stop_tokens

_ROOT = Path(__file__).resolve().parents[2]
_CPU_S = 1.0  # rendering takes milliseconds
_TIMEOUT_S = 15.0  # on a busy machine
_MEMORY_BYTES = 2**30
_TOO_MUCH = "it needs more than a second or a gigabyte of memory"


@dataclass(frozen=True)
class TemplateFacts:
    """Facts about a template.

    Attributes:
        broken: why it cannot be compiled; empty if it can.
        turn_end: the id of the token that ends the assistant's turn; None if there is none.
        system_role: whether it renders a system message at the beginning.
    """

    broken: str
    turn_end: int | None
    system_role: bool


def inspect_template(
    template: str, tokens: Mapping[str, str] | None = None, added: Mapping[str, int] | None = None
) -> TemplateFacts:
    """Facts about a template. A template that takes too long or too much memory is `broken`.

    Args:
        tokens: the tokenizer's named tokens, such as `eos_token`.
        added: the tokens that the tokenizer never splits, with their ids.
    """
    try:
        return _inspect(json.dumps([template, dict(tokens or {}), dict(added or {})]))
    except subprocess.TimeoutExpired:
        return TemplateFacts(_TOO_MUCH, None, False)
    except subprocess.CalledProcessError as error:
        last = error.stderr.decode(errors="replace").strip().rpartition("\n")[2][:200]
        return TemplateFacts(_TOO_MUCH if error.returncode < 0 else f"it cannot be read ({last})", None, False)
    except (OSError, ValueError, TypeError, MemoryError) as error:  # the process cannot start, or wrote no answer
        return TemplateFacts(f"it cannot be inspected ({' '.join(str(error).split())[:200]})", None, False)


def missing_stop_token(folder: Path, template: str) -> int | None:
    """The token that ends a turn in this template but does not stop an engine; None if there is none.

    Args:
        folder: the model's, with its tokenizer. template: the text of the chat template that is served.
    """
    tokens = read_named_tokens(folder)
    if not tokens:
        return None
    added = read_added_tokens(folder)
    token = inspect_template(template, tokens, added).turn_end
    return None if token in (read_stop_tokens(folder) | {added.get(tokens.get("eos_token", ""))}) else token


@lru_cache(maxsize=32)
def _inspect(question: str) -> TemplateFacts:
    """Raises TimeoutExpired or CalledProcessError, which are not cached: the machine may have been busy."""
    command = (sys.executable, "-P", "-m", "models.chat_templates.inspection")
    done = subprocess.run(
        command, input=question.encode(), capture_output=True, timeout=_TIMEOUT_S, check=True,
        env={"PYTHONPATH": str(_ROOT)},  # no keys and passwords
    )  # fmt: skip
    return TemplateFacts(**json.loads(done.stdout))


def _answer(template: str, tokens: dict[str, str], added: dict[str, int]) -> TemplateFacts:
    from models.chat_templates.renderer import compile_template
    from models.chat_templates.system_role import has_system_role
    from models.chat_templates.turn_ends import find_turn_end

    broken = compile_template(template).broken
    return TemplateFacts(broken[:300], find_turn_end(template, tokens, added).token, has_system_role(template, tokens))


def main() -> None:
    """Answers one question on standard input, in a process that ends when it exceeds a limit."""
    import resource
    import signal

    import models.chat_templates.renderer  # noqa: F401 -- its import is not the template's time

    question = json.load(sys.stdin)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    signal.setitimer(signal.ITIMER_PROF, _CPU_S)  # CPU time; its signal ends the process
    json.dump(asdict(_answer(*question)), sys.stdout)


if __name__ == "__main__":
    main()
