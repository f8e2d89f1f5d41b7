"""`parley cloud …`, and what `parley train --on openai|together` does."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from models.errors import Invalid, NotFound
from models.terminal import Home, console, open_home, print_json

if TYPE_CHECKING:
    from models.registry.registry import Registry
    from models.settings.settings import Settings
    from models.spec import ModelSpec
    from train.clouds.cloud import Cloud
    from train.clouds.display import EventPrinter
    from train.clouds.offer import Offer
    from train.clouds.run_records import CloudRun
    from train.request import TrainingRequest

_On = Annotated[
    str | None, typer.Option("--on", help="openai or together. Default: the provider of the run or of the job id.")
]
_AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
_Job = Annotated[str, typer.Argument(help="The name or the id of a run, or the provider's id of a job.")]


def cloud_commands() -> typer.Typer:
    """The `cloud` group, for `train.cli` to add to the app."""
    group = typer.Typer(
        name="cloud",
        help="Fine-tuning jobs at OpenAI and Together AI. Start one with `parley train --on openai`.",
        no_args_is_help=True,
    )
    group.command("list")(cloud_list)
    group.command("follow")(cloud_follow)
    group.command("cancel")(cloud_cancel)
    group.command("register")(cloud_register)
    return group


def cloud_list(
    on: Annotated[str, typer.Option("--on", help="openai or together.")] = "openai",
    limit: Annotated[int, typer.Option(help="The number of jobs, newest first.", min=1)] = 20,
    as_json: _AsJson = False,
) -> None:
    """List the fine-tuning jobs of the account, including those that were not started here."""
    from itertools import islice

    from train.clouds.display import jobs_table
    from train.clouds.run_records import cloud_runs

    with _open_cloud(on) as (home, cloud):
        jobs = list(islice(cloud.jobs(), limit))
        registered = _registered(home.registry)
        runs = list(cloud_runs(home.settings))
    if as_json:
        names = {run.job: run.name for run in runs if run.job}
        rows = [
            asdict(job) | {"registered": registered.get(job.model or ""), "run_name": names.get(job.id)} for job in jobs
        ]
        print_json(rows)
        return
    out = console()
    out.print(jobs_table(jobs, runs, registered) if jobs else f"This {cloud.title} account has no fine-tuning jobs.")
    for run in runs:
        if run.provider == on and run.job is None and run.sending:
            text = f"{run.name}: it is not known whether its job was created. Run the same `parley train` again."
            out.print(text, markup=False)


def cloud_follow(job: _Job, on: _On = None, as_json: _AsJson = False) -> None:
    """Follow a job until it ends, then register its model. Ctrl-C stops following, not the job.

    For a job that was not started here only the events are shown; register its model with `parley cloud register`.
    """
    with _open_cloud(on, job) as (home, cloud):
        run = _find_run(home.settings, job)
        if run:
            _follow_run(run, cloud, home, as_json)
        else:
            _follow_other_job(job, cloud, as_json)


def cloud_cancel(job: _Job, on: _On = None) -> None:
    """Cancel a job. The provider may bill what was trained until then."""
    with _open_cloud(on, job) as (home, cloud):
        run = _find_run(home.settings, job)
        job_id = run.job if run else job
        if job_id is None:
            raise Invalid(f"The run {job!r} has no job yet, so there is nothing to cancel.", param="job")
        cancelled = cloud.cancel(job_id)
        if run:
            run.with_job(cancelled)
    console().print(f"{cancelled.id} at {cloud.title} is {cancelled.provider_status}.", markup=False)


def cloud_register(
    job: _Job,
    name: Annotated[
        str | None, typer.Option(help="The name that clients send. Default: the provider's name of the model.")
    ] = None,
    on: _On = None,
) -> None:
    """Register the model of a finished job, so that Parley serves it, with its shutdown date."""
    from models.home.instance import gateway_url
    from train.clouds.registration import register_job

    with _open_cloud(on, job) as (home, cloud):
        run = _find_run(home.settings, job)
        finished = cloud.job((run.job if run else None) or job)
        registration = register_job(finished, cloud, home.registry, name or (run.name if run else None))
        spec = registration.spec
        if run:
            run.with_job(finished).with_model(spec.id, spec.shutdown_date)
    status = "is registered" if registration.new else "is already registered"
    console().print(f"{spec.id} {status}. Clients reach it at {gateway_url(home.settings)}", markup=False)
    _warn(spec)


def train_on_cloud(on: str, request: "TrainingRequest", multiplier: float | None, *, yes: bool, as_json: bool) -> None:
    """Shows the offer, creates the job, follows it and registers its model: `parley train … --on openai|together`."""
    from train.clouds.display import EventPrinter
    from train.clouds.submission import SubmissionHooks, submit_job
    from train.run.progress import Stage

    with _open_cloud(on) as (home, cloud):
        printer = EventPrinter(silent=as_json)

        def report(event: Any) -> None:
            if isinstance(event, Stage):
                printer.print(f"• {event.message}")

        hooks = SubmissionHooks(confirm=lambda offer: _confirm(offer, yes, as_json), progress=report)
        run = submit_job(request, cloud, home.settings, home.registry, hooks, multiplier=multiplier)
        _follow_run(run, cloud, home, as_json)


def _confirm(offer: "Offer", yes: bool, as_json: bool) -> bool:
    """Shows the offer and asks a person to agree. Without a terminal --yes is required."""
    from train.clouds.display import show_offer
    from train.clouds.offer import format_dollars

    if not as_json:
        show_offer(offer)
    if yes:
        return True
    price = f"about {format_dollars(offer.quote.usd)}" if offer.quote else "an unknown price"
    if as_json or not sys.stdin.isatty():
        raise Invalid(f"This training costs {price} at {offer.cloud}. Add --yes to buy it.", param="yes")
    return typer.confirm(f"Buy this training at {offer.cloud} for {price}?", default=False)


def _follow_run(run: "CloudRun", cloud: "Cloud", home: Home, as_json: bool) -> None:
    """Follows a run to its end and registers the model."""
    from models.home.instance import gateway_url
    from train.clouds.follower import follow, require_success
    from train.clouds.registration import register_job

    with _event_printer(cloud, run.name, as_json) as printer:
        run = follow(run, cloud, printer)
    if as_json and run.state != "succeeded":
        print_json(run.to_json())
    require_success(run, cloud.title)
    spec = register_job(cloud.job(run.job or ""), cloud, home.registry, run.name).spec
    run = run.with_model(spec.id, spec.shutdown_date)
    if as_json:
        print_json(run.to_json())
        return
    out = console()
    tokens = f", {run.tokens:,} tokens trained" if run.tokens else ""
    out.print(f"{cloud.title} made {run.model}{tokens}.", markup=False)
    out.print(f"While `parley up` runs it is served as {run.registered} at {gateway_url(home.settings)}", markup=False)
    out.print(f"The run's folder is {run.folder}", markup=False)
    _warn(spec)


def _follow_other_job(job_id: str, cloud: "Cloud", as_json: bool) -> None:
    """Follows a job that has no run here."""
    from train.clouds.follower import follow_job

    with _event_printer(cloud, job_id, as_json) as printer:
        job = follow_job(job_id, cloud, printer)
    if as_json:
        print_json(asdict(job))
        return
    console().print(f"{job.id} is {job.provider_status}. {job.model or job.error or ''}", markup=False)
    if job.model:
        console().print(f"Register it: parley cloud register {job.id} --name NAME", markup=False)


@contextmanager
def _event_printer(cloud: "Cloud", name: str, as_json: bool) -> "Iterator[EventPrinter]":
    """A printer of events. Ctrl-C in the block prints how to follow again, and ends the command."""
    from train.clouds.display import EventPrinter

    try:
        with EventPrinter(silent=as_json) as printer:
            yield printer
    except KeyboardInterrupt:
        out = console()
        out.print(f"\nStopped following. The job continues at {cloud.title}.", markup=False)
        out.print(f"  follow again   parley cloud follow {name}", markup=False)
        out.print(f"  cancel it      parley cloud cancel {name}", markup=False)
        raise typer.Exit(130) from None


@contextmanager
def _open_cloud(on: str | None, job: str | None = None) -> "Iterator[tuple[Home, Cloud]]":
    """The home, and the cloud of --on, else of the run, else of the job id."""
    from train.clouds.providers import open_cloud, provider_of

    with open_home() as home:
        run = _find_run(home.settings, job) if job else None
        provider = on or (run.provider if run else provider_of(job or ""))
        if provider is None:
            raise Invalid(f"{job!r} is not a run here, and its provider is unknown: add --on openai or --on together.")
        yield home, open_cloud(provider, home.settings)


def _find_run(settings: "Settings", name: str) -> "CloudRun | None":
    from train.clouds.run_records import find_run

    try:
        return find_run(settings, name)
    except NotFound:
        return None


def _registered(registry: "Registry") -> dict[str, str]:
    """The names of registered models here, by their names upstream."""
    specs = registry.list(include_candidates=True)
    return {spec.upstream.model: spec.id for spec in specs if spec.upstream}


def _warn(spec: "ModelSpec") -> None:
    from models.registry.shutdowns import print_shutdowns

    print_shutdowns([spec], console())
