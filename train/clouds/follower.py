"""Follows a job in a cloud until it ends: its events go to the run's folder and to a callback.

Temporary network failures are waited out. Stopping the follower does not stop the job.
"""

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from models.errors import Busy, Invalid, ParleyError, Unavailable
from train.clouds.cloud import Cloud, CloudEvent, CloudJob
from train.clouds.run_records import CloudRun

POLL_S = 5.0
_PATIENCE = 60  # failed polls in a row before giving up: five minutes or more
_LONGEST_PAUSE_S = 60.0

OnEvent = Callable[[CloudEvent], None]


class CloudFailed(ParleyError):
    """The job ended without a model; the message has the provider's reason."""


def follow(
    run: CloudRun,
    cloud: Cloud,
    on_event: OnEvent,
    *,
    poll_s: float = POLL_S,
    pause: Callable[[float], None] = time.sleep,
) -> CloudRun:
    """Waits for a run's job, and passes on its events, the stored ones first.

    Returns:
        The record with the ended job: succeeded, failed or cancelled.

    Raises:
        Invalid: the run has no job. Unavailable: the provider has not answered for minutes; the job continues.
    """
    if run.job is None:
        raise Invalid(
            f"The job of {run.name!r} is unknown. Run the same `parley train … --on {run.provider}` again to continue.",
            param="run",
        )
    stored = run.events()
    for event in stored:
        on_event(_from_record(event))
    seen = {event["id"] for event in stored}
    failures = 0
    while True:
        try:
            job = cloud.job(run.job)
            events = cloud.events(run.job, seen)  # after the job, so that no event of an ended job is missed
        except (Busy, Unavailable) as error:
            failures += 1
            if failures > _PATIENCE:
                raise Unavailable(
                    f"{cloud.title} does not answer. The job continues there; follow it later with "
                    f"`parley cloud follow {run.name}`."
                ) from error
            pause(min(error.retry_after or poll_s * failures, _LONGEST_PAUSE_S))
            continue
        failures = 0
        for event in events:
            run.append(event)
            seen.add(event.id)
            on_event(event)
        if job.state != run.state or job.over:
            run = run.with_job(job)
        if job.over:
            return run
        pause(poll_s)


def follow_job(job_id: str, cloud: Cloud, on_event: OnEvent) -> CloudJob:
    """Waits for a job without a run here, and passes on its events. Returns the ended job."""
    seen: set[str] = set()
    while True:
        job = cloud.job(job_id)
        for event in cloud.events(job_id, seen):
            seen.add(event.id)
            on_event(event)
        if job.over:
            return job
        time.sleep(POLL_S)


def require_success(run: CloudRun, title: str) -> CloudRun:
    """The same run, if it ended with a model.

    Raises:
        CloudFailed: it did not.
    """
    if run.state == "succeeded" and run.model:
        return run
    if run.state == "cancelled":
        raise CloudFailed(f"The job {run.job} was cancelled: there is no model.")
    raise CloudFailed(f"The job {run.job} at {title} failed: {run.error or run.state}")


def _from_record(event: dict[str, Any]) -> CloudEvent:
    return CloudEvent(**event | {"created": datetime.fromisoformat(event["created"])})
