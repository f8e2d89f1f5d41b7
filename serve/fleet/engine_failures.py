"""Failures of engines: which are alike, how many in a row are too many, and what an operator can try."""

from dataclasses import dataclass

NOT_READY = "was not ready within"
HUNG = "generated no token and made no progress"
FROZEN = "was stopped by a signal and did not continue"
LOST = "lost its Ray actor or its node"
_KILLED = "SIGKILL"
_CRASHES = ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE")
_MAX_ALIKE, _MAX_EXTERNAL = 3, 5
# An engine that was ready for longer than this was stable: its next failure begins a new streak.
_STABLE_S, _STABLE_EXTERNAL_S = 120.0, 10.0


@dataclass(frozen=True)
class FailureStreak:
    """Failures of one engine in a row, without a stable period in between.

    `count`: all of them. `alike`: the most recent ones that are of the same kind. `kind`: the kind of the last one.
    """

    count: int = 0
    alike: int = 0
    kind: str = ""

    def add(self, reason: str, ready_s: float | None) -> "FailureStreak":
        """The streak with one more failure.

        Args:
            reason: a phrase such as "was ended by SIGILL (Illegal instruction): its last log line".
            ready_s: how long the engine had been ready; None if it never was.
        """
        kind = reason.partition(":")[0]
        stable_s = _STABLE_EXTERNAL_S if _is_external(kind) else _STABLE_S
        if ready_s is not None and ready_s > stable_s:
            return FailureStreak(1, 1, kind)
        return FailureStreak(self.count + 1, self.alike + 1 if kind == self.kind else 1, kind)

    @property
    def too_many(self) -> bool:
        """Whether another start would most likely fail in the same way."""
        return self.alike >= (_MAX_EXTERNAL if _is_external(self.kind) else _MAX_ALIKE)


def _is_external(kind: str) -> bool:
    """Whether the kernel, a person or a lost node ended or stopped the engine, which may not happen again."""
    return _KILLED in kind or kind in (FROZEN, LOST)


def advice(kind: str, reason: str = "") -> str:
    """What an operator can try after failures of this kind, of which `reason` is the last: a sentence."""
    if "trust_remote_code" in reason:
        return (
            "The model needs its own code: read it, and if you trust it, register the model with --trust-remote-code."
        )
    if _KILLED in kind:
        return "The memory probably ran out: lower max_model_len or cpu_kv_cache_gib, or retire a model."
    if "SIGILL" in kind:
        return "vLLM's build uses an instruction that this CPU lacks: try another dtype, or a build for this CPU."
    if any(name in kind for name in _CRASHES):
        return "Try another dtype, no extra_args, or another release of vLLM."
    if kind.startswith(NOT_READY):
        return "If it only needs more time, raise engine_start_timeout_s."
    if kind == HUNG:
        return "Find the last request in the access log, and repeat it without its unusual fields."
    if kind == LOST:
        return "See `ray status`, and Ray's logs on the nodes."
    return "See its log for the full error."
