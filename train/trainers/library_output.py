"""Redirects the training libraries' warnings and progress bars from the terminal to the run's log."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LIBRARIES = ("transformers", "trl", "peft", "accelerate", "datasets", "bitsandbytes", "huggingface_hub")


@contextmanager
def quiet(log: Path | None = None, threads: int | None = None) -> Iterator[None]:
    """Inside, the libraries' warnings go to `log` (nowhere without it), and torch uses `threads` threads.

    Everything is restored afterwards.
    """
    import torch
    from datasets.utils import disable_progress_bars, enable_progress_bars
    from transformers.utils import logging as transformers_logging

    before = torch.get_num_threads()
    if threads:
        torch.set_num_threads(threads)
    handler: logging.Handler = logging.FileHandler(log, encoding="utf-8") if log else logging.NullHandler()
    handler.setLevel(logging.WARNING)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s"))
    loggers = [logging.getLogger(name) for name in _LIBRARIES]
    previous = [(logger.handlers[:], logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.handlers, logger.propagate = [handler], False
    disable_progress_bars()
    transformers_logging.disable_progress_bar()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            torch.set_num_threads(before)
            enable_progress_bars()
            transformers_logging.enable_progress_bar()
            for logger, (handlers, propagate) in zip(loggers, previous, strict=True):
                logger.handlers, logger.propagate = handlers, propagate
            handler.close()
