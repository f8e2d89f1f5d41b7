"""The wandb integration of a fine-tuning job: its metrics in the project that the request names.

One job is one wandb run, also after interruptions: the run has the job's id and is resumed.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from train.run.progress import Progress, silent
from train.run.trackers import open_wandb


@contextmanager
def wandb_run(integration: Mapping[str, Any] | None, job: str, base: str, folder: Path) -> Iterator[Progress]:
    """A receiver that logs steps and validations, closed at the end; without an integration it ignores them.

    Args:
        integration: OpenAI's {project, name, entity, tags}. folder: for wandb's own files.
    """
    if integration is None:
        yield silent
        return
    tags = [*(integration.get("tags") or ()), "parley/finetune", f"parley/{base}"[:64], f"parley/{job}"]
    with open_wandb(
        project=integration["project"],
        entity=integration.get("entity"),
        name=integration.get("name") or job,
        id=job,
        resume="allow",
        tags=tags,
        dir=str(folder),
    ) as emit:
        yield emit
