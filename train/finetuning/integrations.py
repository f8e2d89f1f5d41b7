"""The wandb integration of a fine-tuning job: its numbers in the project that the request names.

One job is one run there, whatever interrupts it: the run is called by the job's id and taken up again.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from train.run.progress import Progress, silent
from train.run.trackers import tracked


@contextmanager
def wandb_run(asked: Mapping[str, Any] | None, job: str, base: str, folder: Path) -> Iterator[Progress]:
    """A listener that hands steps and validations on, closed at the end; one that does nothing where none is asked.

    Args:
        asked: OpenAI's {project, name, entity, tags}. folder: where wandb keeps its own files.
    """
    if asked is None:
        yield silent
        return
    wandb: Any = import_module("wandb")
    tags = [*(asked.get("tags") or ()), "parley/finetune", f"parley/{base}"[:64], f"parley/{job}"]
    opened = wandb.init(
        project=asked["project"],
        entity=asked.get("entity"),
        name=asked.get("name") or job,
        id=job,
        resume="allow",
        tags=tags,
        dir=str(folder),
    )
    with opened:
        yield tracked(lambda row, step: opened.log(row, step=step))
