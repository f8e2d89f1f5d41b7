"""Failures of engines: which are the same, how many in a row are too many, and what an operator can try."""

from dataclasses import dataclass

NOT_READY = "was not ready within"
HUNG = "generated no token and made no progress"
FROZEN = "was stopped by a signal and did not continue"
_KILLED = "SIGKILL"
_CRASHES = ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE")
_MOST_ALIKE, _MOST_FROM_OUTSIDE = 3, 5
# An engine that was ready for this long has started well: its next failure is the first of a new row.
_STEADY_S, _STEADY_FROM_OUTSIDE_S = 120.0, 10.0


@dataclass(frozen=True)
class FailureRow:
    """Failures of one engine in a row, without a steady time in between.

    `count`: all of them; `alike`: those at the end that are the same as the last, whose kind is `kind`.
    """

    count: int = 0
    alike: int = 0
    kind: str = ""

    def add(self, reason: str, ready_s: float | None) -> "FailureRow":
        """The row with one more failure.

        Args:
            reason: a phrase such as "was ended by SIGILL (Illegal instruction): its last words".
            ready_s: how long the engine had been ready; None if it never was.
        """
        kind = reason.partition(":")[0]
        steady_s = _STEADY_FROM_OUTSIDE_S if _is_from_outside(kind) else _STEADY_S
        if ready_s is not None and ready_s > steady_s:
            return FailureRow(1, 1, kind)
        return FailureRow(self.count + 1, self.alike + 1 if kind == self.kind else 1, kind)

    @property
    def too_many(self) -> bool:
        """Whether another start would most likely fail in the same way."""
        return self.alike >= (_MOST_FROM_OUTSIDE if _is_from_outside(self.kind) else _MOST_ALIKE)


def _is_from_outside(kind: str) -> bool:
    """Whether the kernel or a person ended or stopped the engine, which need not happen again."""
    return _KILLED in kind or kind == FROZEN


def advice(kind: str, reason: str = "") -> str:
    """What an operator can try after failures of this kind, of which `reason` is the last: a sentence."""
    if "trust_remote_code" in reason:
        return "The model comes with code of its own: read it, then register the model with --trust-remote-code."
    if _KILLED in kind:
        return "The memory probably ran out: lower max_model_len or cpu_kv_cache_gib, or retire a model."
    if "SIGILL" in kind:
        return "This CPU refused an instruction of vLLM's build: try another dtype, or a build for this CPU."
    if any(name in kind for name in _CRASHES):
        return "Try another dtype, without extra_args, or another release of vLLM."
    if kind.startswith(NOT_READY):
        return "If it only needs more time, raise engine_start_timeout_s."
    if kind == HUNG:
        return "Find the last request in the access log, and try it without its unusual fields."
    return "Its log has the whole error."
