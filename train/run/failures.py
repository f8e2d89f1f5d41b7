"""Failures of a training as one-line errors (diverged, out of memory), and what exceptions of libraries mean."""

import errno
from collections.abc import Iterator
from pathlib import Path

from models.errors import ParleyError

# A file size limit (EFBIG) or a quota has the same effect as a full disk.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# torch reports an incomplete write only by this text.
_CUT_OFF = ("inline_container.cc", "unexpected pos")


class TrainingDiverged(ParleyError):
    """The loss or a weight is not finite. `checkpoint` is the folder of the last good one, if any."""

    status = 422

    def __init__(self, what: str, step: int, learning_rate: float, checkpoint: Path | None = None) -> None:
        self.step = step
        self.checkpoint = checkpoint
        good = f"The last good checkpoint is {checkpoint}. " if checkpoint else ""
        super().__init__(
            f"{what} at step {step}: training stopped. {good}Lower the learning rate (it is {learning_rate:g}), or "
            "check whether the base is damaged."
        )


class OutOfMemory(ParleyError, MemoryError):
    """Something did not fit into memory. `rows_at_once` is the micro-batch that did not fit; 0 before any step."""

    status = 507

    def __init__(self, rows_at_once: int = 0) -> None:
        self.rows_at_once = rows_at_once
        rows = "one row" if rows_at_once == 1 else f"{rows_at_once} rows"
        when = f"with {rows} at a time" if rows_at_once else "before the first step"
        super().__init__(
            f"Out of memory {when}: lower max_length, hold the base in 4 bits (qlora), or take a smaller base."
        )


def disk_is_full(error: BaseException) -> bool:
    """Whether an exception, or one of its causes, is a full disk."""
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.errno in _FULL:
            return True
        text = str(cause)
        if all(part in text for part in _CUT_OFF) or any(f"(os error {number})" in text for number in _FULL):
            return True
    return False


def memory_is_full(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on the GPU or on the CPU."""
    if isinstance(error, MemoryError):
        return True
    text = str(error)
    # torch.cuda.OutOfMemoryError is a RuntimeError too; checking its text needs no torch.
    return isinstance(error, RuntimeError) and (
        "out of memory" in text.lower() or "can't allocate memory" in text or "std::bad_alloc" in text
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__
