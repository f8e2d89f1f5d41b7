"""`parley cloud …`, and what `parley train --on openai|together` does. It shows; the work is in the files beside it."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from models.errors import Invalid, NotFound

if TYPE_CHECKING:
    from models.registry import Registry
    from models.settings import Settings
    from train.clouds.cloud import Cloud
    from train.clouds.display import Follower
    from train.clouds.run_records import CloudRun
    from train.clouds.submission import Offer

On = Annotated[str | None, typer.Option("--on", help="openai or together; without it by what the run or id tells.")]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
WhichJob = Annotated[str, typer.Argument(help="The name of a run, its id, or the provider's id of the job.")]


def cloud_commands() -> typer.Typer:
    """The `cloud` group, for `train.cli` to hang on the app."""
    group = typer.Typer(
        name="cloud",
        help="Fine-tuning jobs at OpenAI and Together AI. `parley train --on openai` starts one.",
        no_args_is_help=True,
    )
    group.command("list")(cloud_list)
    group.command("follow")(cloud_follow)
    group.command("cancel")(cloud_cancel)
    group.command("register")(cloud_register)
    return group


def cloud_list(
    on: Annotated[str, typer.Option("--on", help="openai or together.")] = "openai",
    limit: Annotated[int, typer.Option(help="How many, the newest first.", min=1)] = 20,
    as_json: JsonFlag = False,
) -> None:
    """List the account's fine-tuning jobs, those that were not started here too."""
    from itertools import islice

    from models.terminal import console
    from train.clouds.display import jobs_table
    from train.clouds.run_records import cloud_runs

    with _opened(on) as (settings, registry, cloud):
        jobs = list(islice(cloud.jobs(), limit))
        registered = _registered(registry)
        runs = list(cloud_runs(settings))
    if as_json:
        here = {run.job: run.name for run in runs if run.job}
        rows = [
            asdict(job) | {"registered": registered.get(job.model or ""), "run_name": here.get(job.id)} for job in jobs
        ]
        typer.echo(json.dumps(rows, ensure_ascii=False, default=str))
        return
    out = console()
    out.print(jobs_table(jobs, runs, registered) if jobs else f"This {cloud.title} account has no fine-tuning jobs.")
    waiting = [run for run in runs if run.provider == on and run.job is None and run.sending]
    for run in waiting:
        out.print(f"{run.name}: asked for, and its job is not known. Run the same `parley train` again.", markup=False)


def cloud_follow(job: WhichJob, on: On = None, as_json: JsonFlag = False) -> None:
    """Follow a job until its end and register its model. Ctrl-C stops following, not the job.

    Of a job that was not started here only the events are shown; `parley cloud register` registers its model.
    """
    from train.clouds.run_records import find_run

    with _opened(on, job) as (settings, registry, cloud):
        try:
            run = find_run(settings, job)
        except NotFound:
            _follow_stranger(job, cloud, as_json)
            return
        _follow(run, cloud, registry, settings, as_json)


def cloud_cancel(job: WhichJob, on: On = None) -> None:
    """Cancel a job. What was trained until then may be billed."""
    from models.terminal import console

    with _opened(on, job) as (settings, _, cloud):
        run = _run(settings, job)
        job_id = run.job if run else job
        if job_id is None:
            raise Invalid(f"{job!r} has no job yet: nothing to cancel.", param="job")
        found = cloud.cancel(job_id)
        if run:
            run.with_job(found)
    console().print(f"{found.id} at {cloud.title} is {found.said}.", markup=False)


def cloud_register(
    job: WhichJob,
    name: Annotated[str | None, typer.Option(help="What clients will send; the provider's name without it.")] = None,
    on: On = None,
) -> None:
    """Register a finished job's model, so that Parley serves it under a name of yours, with its shutdown date."""
    from models.terminal import console
    from train.clouds.registration import register_job

    with _opened(on, job) as (settings, registry, cloud):
        run = _run(settings, job)
        found = cloud.job((run.job if run else None) or job)
        made = register_job(found, cloud, registry, name or (run.name if run else None))
        if run:
            run.with_job(found).with_model(made.spec.id, made.spec.shutdown_date)
    already = "" if made.new else " already"
    console().print(f"{made.spec.id} is registered{already}. Clients reach it at {settings.gateway_url}", markup=False)
    _warn(made.spec)


def train_on_cloud(
    on: str,
    data: Any,
    *,
    base: str,
    name: str,
    method: Any,
    hyperparameters: Any,
    multiplier: float | None,
    validation: Any,
    columns: Any,
    yes: bool,
    as_json: bool,
) -> None:
    """What `parley train … --on openai|together` does: offer, agreement, order, follow, register."""
    from train.clouds.display import Follower
    from train.clouds.submission import order
    from train.run.progress import Stage

    with _opened(on) as (settings, registry, cloud):
        follower = Follower(silent=as_json)

        def tell(event: Any) -> None:
            if isinstance(event, Stage):
                follower.say(f"• {event.message}")

        run = order(
            data,
            cloud=cloud,
            base=base,
            name=name,
            settings=settings,
            registry=registry,
            method=method,
            hyperparameters=hyperparameters,
            multiplier=multiplier,
            validation=validation,
            columns=columns,
            agree=lambda offer: _agreed(offer, yes, as_json),
            progress=tell,
        )
        _follow(run, cloud, registry, settings, as_json)


def _agreed(offer: "Offer", yes: bool, as_json: bool) -> bool:
    """Shows what is bought; asks a person, and takes silence for no where there is none to ask."""
    from train.clouds.display import show_offer
    from train.clouds.submission import dollars

    if not as_json:
        show_offer(offer)
    if yes:
        return True
    price = f"about {dollars(offer.quote.usd)}" if offer.quote else "an unknown price"
    if as_json or not sys.stdin.isatty():
        raise Invalid(f"This costs {price} at {offer.cloud}: say --yes to buy it.", param="yes")
    return typer.confirm(f"Buy this training at {offer.cloud} for {price}?", default=False)


def _follow(
    run: "CloudRun", cloud: "Cloud", registry: "Registry", settings: "Settings", as_json: bool
) -> "CloudRun | None":
    """To the end, and the model registered; None where Ctrl-C stopped the following."""
    from models.terminal import console
    from train.clouds.follower import follow, require_success
    from train.clouds.registration import register_job

    with _followed(cloud, run.name, as_json) as follower:
        run = follow(run, cloud, follower)
    if as_json and run.state != "succeeded":
        typer.echo(json.dumps(run.as_json(), ensure_ascii=False))
    require_success(run, cloud.title)
    made = register_job(cloud.job(run.job or ""), cloud, registry, run.name)
    run = run.with_model(made.spec.id, made.spec.shutdown_date)
    if as_json:
        typer.echo(json.dumps(run.as_json(), ensure_ascii=False))
        return run
    out = console()
    trained = f", {run.tokens:,} tokens trained" if run.tokens else ""
    out.print(f"{cloud.title} made {run.model}{trained}.", markup=False)
    out.print(f"It is served as {run.registered} at {settings.gateway_url} while `parley up` runs.", markup=False)
    out.print(f"Everything about it is in {run.folder}", markup=False)
    _warn(made.spec)
    return run


def _follow_stranger(job_id: str, cloud: "Cloud", as_json: bool) -> None:
    """A job that no run here knows: its events, and how it stands."""
    import time

    from models.terminal import console
    from train.clouds.follower import POLL_S

    seen: set[str] = set()
    with _followed(cloud, job_id, as_json) as follower:
        while True:
            job = cloud.job(job_id)
            for event in cloud.events(job_id, seen):
                seen.add(event.id)
                follower(event)
            if job.over:
                break
            time.sleep(POLL_S)
    if as_json:
        typer.echo(json.dumps(asdict(job), ensure_ascii=False, default=str))
        return
    console().print(f"{job.id} is {job.said}. {job.model or job.error or ''}", markup=False)
    if job.model:
        console().print(f"Register it: parley cloud register {job.id} --name NAME", markup=False)


@contextmanager
def _followed(cloud: "Cloud", name: str, as_json: bool) -> "Iterator[Follower]":
    """Ctrl-C in the block says what goes on and how to come back, and ends the command."""
    from models.terminal import console
    from train.clouds.display import Follower

    try:
        with Follower(silent=as_json) as follower:
            yield follower
    except KeyboardInterrupt:
        out = console()
        out.print(f"\nNobody follows it now; the job goes on at {cloud.title}.", markup=False)
        out.print(f"  follow again   parley cloud follow {name}", markup=False)
        out.print(f"  cancel it      parley cloud cancel {name}", markup=False)
        raise typer.Exit(130) from None


@contextmanager
def _opened(on: str | None, which: str | None = None) -> "Iterator[tuple[Settings, Registry, Cloud]]":
    """Settings, registry and the cloud that is meant: as asked, else by the run, else by the look of the id."""
    from models.cli import opened
    from models.registry import Registry
    from train.clouds.cloud import open_cloud, provider_of

    settings, database = opened()
    try:
        run = _run(settings, which) if which else None
        provider = on or (run.provider if run else provider_of(which or ""))
        if provider is None:
            raise Invalid(f"{which!r} is no run here, and tells no provider: add --on openai or --on together.")
        yield settings, Registry(database), open_cloud(provider, settings)
    finally:
        database.dispose()


def _run(settings: "Settings", which: str) -> "CloudRun | None":
    from train.clouds.run_records import find_run

    try:
        return find_run(settings, which)
    except NotFound:
        return None


def _registered(registry: "Registry") -> dict[str, str]:
    """What upstream models are called here."""
    specs = registry.list(include_candidates=True)
    return {spec.upstream.model: spec.id for spec in specs if spec.upstream}


def _warn(spec: Any) -> None:
    from models.shutdowns import print_shutdowns
    from models.terminal import console

    print_shutdowns([spec], console())
