"""train/trainers/runtime.py: where the libraries' output goes while several threads train or plan."""

import logging
from contextlib import ExitStack
from pathlib import Path

from train.trainers.runtime import quiet


def test_handlers_are_restored_in_whatever_order_the_blocks_end(tmp_path: Path) -> None:
    logger = logging.getLogger("peft")
    before = (logger.handlers[:], logger.propagate)
    first, second = ExitStack(), ExitStack()
    first.enter_context(quiet(tmp_path / "first.log"))
    second.enter_context(quiet(tmp_path / "second.log"))
    first.close()
    logger.warning("after the first has ended")
    second.close()
    assert (logger.handlers, logger.propagate) == before
    assert (tmp_path / "first.log").read_text() == ""
    assert "peft: after the first has ended" in (tmp_path / "second.log").read_text()
