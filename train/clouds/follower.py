"""Following a job in a cloud: its events as they come, into the run's folder and to whoever listens, until the end.

A network that fails for a while is waited for. Whoever stops following stops nothing: the job goes on there.
"""

import time
from collections.abc import Callable
from typing import Any

from models.errors import Busy, Invalid, ParleyError, Unavailable
from train.clouds.cloud import Cloud, CloudEvent
from train.clouds.run_records import CloudRun

POLL_S = 5.0
_PATIENCE = 60  # times in a row that the provider may not answer: five minutes and more
_LONGEST_PAUSE_S = 60.0

Tell = Callable[[CloudEvent], None]


class CloudFailed(ParleyError):
    """The provider ended the job without a model; the message has its words."""


def follow(
    run: CloudRun, cloud: Cloud, tell: Tell, *, poll_s: float = POLL_S, pause: Callable[[float], None] = time.sleep
) -> CloudRun:
    """Waits for a run's job and tells its events, those of before first.

    Returns:
        The record of a run whose job is over: succeeded, failed or cancelled.

    Raises:
        Invalid: the run has no job. Unavailable: the provider has not answered for minutes; the job goes on.
    """
    if run.job is None:
        raise Invalid(
            f"No job is known for {run.name!r}: run the same `parley train … --on {run.provider}` again, it goes on.",
            param="run",
        )
    kept = run.seen()
    for event in kept:
        tell(_told(event))
    seen = {event["id"] for event in kept}
    silent = 0
    while True:
        try:
            job = cloud.job(run.job)
            # After the job: whatever it told before it ended is in this list.
            fresh = cloud.events(run.job, seen)
        except (Busy, Unavailable) as error:
            silent += 1
            if silent > _PATIENCE:
                raise Unavailable(
                    f"{cloud.title} has not answered for long; the job goes on there. Later: "
                    f"`parley cloud follow {run.name}`."
                ) from error
            pause(min(error.retry_after or poll_s * silent, _LONGEST_PAUSE_S))
            continue
        silent = 0
        for event in fresh:
            run.keep(event)
            seen.add(event.id)
            tell(event)
        if job.state != run.state or job.over:
            run = run.with_job(job)
        if job.over:
            return run
        pause(poll_s)


def require_success(run: CloudRun, title: str) -> CloudRun:
    """The same run, where it ended with a model.

    Raises:
        CloudFailed: it did not; the provider's reason.
    """
    if run.state == "succeeded" and run.model:
        return run
    if run.state == "cancelled":
        raise CloudFailed(f"The job {run.job} was cancelled: there is no model.")
    raise CloudFailed(f"{title} ended the job {run.job}: {run.error or run.state}")


def _told(event: dict[str, Any]) -> CloudEvent:
    from datetime import datetime

    return CloudEvent(**event | {"created": datetime.fromisoformat(event["created"])})
