"""Creates exactly one job in a cloud from training data: check, price, confirm, upload, create. It may be repeated.

The run's record is written before every step that must not happen twice. The same command continues an interrupted
run, and looks for a job whose answer was lost before it creates another.
"""

import math
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from models.errors import Busy, Conflict, Invalid, NotFound, ParleyError, Unauthorized, Unavailable
from models.registry.registry import Registry
from models.settings.settings import Settings
from train.clouds.cloud import Cloud, CloudJob, JobRequest
from train.clouds.offer import Confirm, PreparedData, format_dollars, make_offer, prepare_data
from train.clouds.run_records import CloudRun, cloud_runs, fingerprint, lock_name, new_run
from train.publication.publish import check_name
from train.request import TrainingRequest
from train.run.progress import Progress, Stage, silent

_TRIES = 5
_LOOKUPS = (0.5, 2.0, 5.0)  # seconds before each search for a job whose answer was lost: a list may lag behind
_LONGEST_WAIT_S = 120.0

Pause = Callable[[float], None]


@dataclass(frozen=True)
class SubmissionHooks:
    """What a submission calls: `confirm` with the offer before anything is sent (False ends the submission),
    `progress` with each stage, and `pause` with the seconds to wait."""

    confirm: Confirm = lambda offer: True
    progress: Progress = silent
    pause: Pause = time.sleep


def submit_job(
    training: TrainingRequest,
    cloud: Cloud,
    settings: Settings,
    registry: Registry,
    hooks: SubmissionHooks | None = None,
    *,
    multiplier: float | None = None,
) -> CloudRun:
    """Creates a job in a cloud. Repeated with the same training, it continues or returns the same run.

    Args:
        training: `base` is the provider's name of the base model; the suffix at the provider is made from `name`.
        multiplier: OpenAI's learning_rate_multiplier.

    Returns:
        The record of the run, with a job that has not ended yet: `follower.follow` waits for it.

    Raises:
        UnusableData: the data. Invalid: something the cloud does not support, or not confirmed. Conflict: the name is
        taken, or another run of that name is in progress. Unauthorized, Busy, Unavailable: the provider.
    """
    hooks = hooks or SubmissionHooks()
    progress = hooks.progress
    base, name = str(training.base), str(training.name)
    check_name(registry, name)
    if training.method == "kto":
        raise Invalid(f"{cloud.title} does not support KTO: leave --on out to train here.", param="method")
    request = JobRequest(
        "", base, _suffix(name, cloud), training.method, training.hyperparameters, multiplier=multiplier
    )
    cloud.check(request)
    prepared = prepare_data(training, cloud)
    mark = _fingerprint(request, prepared)
    with lock_name(settings, name):
        run = _unfinished(settings, cloud, name, mark)
        if run is None:
            offer = make_offer(prepared, cloud, request, name)
            if not hooks.confirm(offer):
                raise Invalid(f"Nothing was sent to {cloud.title}.")
            usd = offer.quote.usd if offer.quote else None
            source = str(training.data) if isinstance(training.data, str | Path) else "in memory"
            run = new_run(
                settings, prepared.training, prepared.validation,
                provider=cloud.provider, name=name, base=base, suffix=request.suffix, method=request.method,
                hyperparameters=asdict(request.hyperparameters), multiplier=multiplier, fingerprint=mark,
                examples=len(prepared.learnt), held_out=len(prepared.held_out), data=source, usd=usd,
            )  # fmt: skip
        elif run.job:
            progress(Stage(f"{cloud.title} already has this job: {run.job}"))
            return run
        else:
            progress(Stage(f"Continuing the interrupted run {run.run}"))
        run = _upload(run, cloud, progress)
        _check_estimate(run, cloud, progress)
        progress(Stage(f"Creating the job at {cloud.title}"))
        before, run = run.sending, run.saved(sending=True)
        try:
            job = create_once(cloud, run.request, run.examples, first=not before, pause=hooks.pause)
        except (Busy, Invalid, NotFound, Unauthorized):
            run.saved(sending=before)  # the provider refused the request, so there is no job
            raise
        progress(Stage(f"{cloud.title} created the job {job.id}"))
        return run.with_job(job)


def create_once(
    cloud: Cloud, request: JobRequest, examples: int, *, first: bool = True, pause: Pause = time.sleep
) -> CloudJob:
    """Creates one job for a request. If an answer was lost, the job is looked up before it is created again.

    Args:
        first: whether the request was never sent before, so that there can be no job yet.

    Raises:
        Unavailable: the provider cannot be reached, so that it is unknown whether there is a job. What it refuses.
    """
    if not first and (known := cloud.find_job(request)):
        return known
    for attempt in range(1, _TRIES + 1):
        try:
            return cloud.create_job(request, examples)
        except Busy as error:  # refused for now, so there is no job
            if attempt == _TRIES or (error.retry_after or 0) > _LONGEST_WAIT_S:
                raise
            pause(error.retry_after if error.retry_after is not None else 2.0**attempt)
        except Unavailable:
            known = _look_up(cloud, request, pause)
            if known:
                return known
            if attempt == _TRIES:
                raise
    raise Unavailable(f"{cloud.title} created no job.")


def _look_up(cloud: Cloud, request: JobRequest, pause: Pause) -> CloudJob | None:
    """The job that was created after all; None if the provider's list says that there is none."""
    answered = False
    for seconds in _LOOKUPS:
        pause(seconds)
        try:
            known = cloud.find_job(request)
        except (Busy, Unavailable):
            continue
        answered = True
        if known:
            return known
    if not answered:
        raise Unavailable(
            f"{cloud.title} does not answer, so it is not known whether the job was created. Run the same command "
            "again later; it looks for the job first."
        )
    return None


def _fingerprint(request: JobRequest, prepared: PreparedData) -> str:
    values = {"base": request.base, "method": request.method, "multiplier": request.multiplier}
    return fingerprint(prepared.training, prepared.validation, values | asdict(request.hyperparameters))


def _unfinished(settings: Settings, cloud: Cloud, name: str, mark: str) -> CloudRun | None:
    """The run to continue; None if there is none.

    Raises:
        Conflict: a run of the same name has other data or hyperparameters.
    """
    for run in cloud_runs(settings):
        if run.name != name or run.state in ("failed", "cancelled"):
            continue
        if run.fingerprint == mark and run.provider == cloud.provider:
            return run
        if run.sending:
            raise Conflict(
                f"A run named {name!r} with other data or hyperparameters is already at {run.provider} "
                f"({run.job or run.run}). Choose another name, or cancel it with `parley cloud cancel {name}`.",
                param="name",
            )
    return None


def _upload(run: CloudRun, cloud: Cloud, progress: Progress) -> CloudRun:
    """Uploads each file once; again only if the provider has deleted it since."""
    for part, path in (("training_file", run.training_path), ("validation_file", run.validation_path)):
        if not path.is_file() or ((known := getattr(run, part)) and cloud.has_file(known)):
            continue
        progress(Stage(f"Uploading {path.name}, {math.ceil(path.stat().st_size / 1024):,} KiB, to {cloud.title}"))
        run = run.saved(**{part: cloud.upload(path)})
    for file_id in (run.training_file, run.validation_file):
        if file_id:
            cloud.wait_for_file(file_id)
    return run


def _check_estimate(run: CloudRun, cloud: Cloud, progress: Progress) -> None:
    try:
        estimate = cloud.estimate(run.request, run.examples)
    except (Busy, Unavailable) as error:
        progress(Stage(f"No estimate from {cloud.title}: {error}"))
        return
    if estimate is None:
        return
    price = format_dollars(estimate.usd)
    progress(Stage(f"{cloud.title} estimates {price}"))
    if not estimate.allowed:
        raise ParleyError(f"The {cloud.title} account cannot pay {price}. Nothing was started.")


def _suffix(name: str, cloud: Cloud) -> str:
    """The letters and digits of a name, as providers accept them in a suffix."""
    suffix = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[: cloud.longest_suffix].strip("-")
    return suffix or "parley"
