"""What can go wrong while a model learns, told in one line each: diverged, out of memory, disk full.

It tells what an exception of torch, safetensors or the system means. What is done about it is `resuming`'s.
"""

import errno
from collections.abc import Iterator
from pathlib import Path

from models.errors import ParleyError

# A file size limit (EFBIG) is to the one who writes what a full disk is, and so is a quota.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# torch and safetensors tell a cut-off write only in their own words.
_CUT_OFF = ("inline_container.cc", "unexpected pos")


class TrainingDiverged(ParleyError):
    """The loss, or a weight, is not a number any more. `checkpoint` is the last good one's folder, if there is one."""

    status = 422

    def __init__(self, what: str, step: int, learning_rate: float, checkpoint: Path | None = None) -> None:
        self.step = step
        self.checkpoint = checkpoint
        good = f"The last good checkpoint is {checkpoint}. " if checkpoint else ""
        super().__init__(
            f"{what} at step {step}: training stopped. {good}Lower the learning rate (it is {learning_rate:g}), or "
            "look for a damaged base."
        )


class OutOfMemory(ParleyError, MemoryError):
    """Something did not fit into memory. `rows_at_once` is the micro-batch that was too much; 0 before any step."""

    status = 507

    def __init__(self, rows_at_once: int = 0) -> None:
        self.rows_at_once = rows_at_once
        rows = "one row" if rows_at_once == 1 else f"{rows_at_once} rows"
        when = f"with {rows} at a time" if rows_at_once else "before the first step"
        super().__init__(
            f"Out of memory {when}: lower max_length, hold the base in 4 bits (qlora), or take a smaller base."
        )


def disk_is_full(error: BaseException) -> bool:
    """Whether an exception, or what it came from, says that nothing more can be written."""
    for one in _causes(error):
        if isinstance(one, OSError) and one.errno in _FULL:
            return True
        text = str(one)
        if all(part in text for part in _CUT_OFF) or any(f"(os error {number})" in text for number in _FULL):
            return True
    return False


def memory_is_full(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on the GPU or, by torch's or Python's allocator, on the CPU."""
    if isinstance(error, MemoryError):
        return True
    text = str(error)
    # torch.cuda.OutOfMemoryError is a RuntimeError too; by its words this needs no torch.
    return isinstance(error, RuntimeError) and (
        "out of memory" in text.lower() or "can't allocate memory" in text or "std::bad_alloc" in text
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or one.__context__
