"""The `parley` command: it combines the rooms' commands, names the job handlers, and installs the demo.

Commands import what they need when they run, so `parley --help` loads none of torch, vllm, gradio and transformers.
Only `main` prints errors to the terminal.
"""

import functools
import logging
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from models.command_help import unwrap_help
from models.command_options import settings_options
from models.errors import ParleyError
from models.terminal import exit_on_termination, usage_message

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

    from models.database import Database
    from models.demo import DemoModel
    from models.registry.new_model import NewModel
    from models.settings.settings import Settings
    from models.spec import ModelSpec
    from models.terminal import Home
    from train.clouds.recording_offer import RecordingOffer

# The order of commands in `parley --help`; all others come last.
COMMAND_ORDER = (
    "demo", "up", "status", "page", "data", "train", "cloud", "rescue", "merge", "generate", "batch", "prompts",
    "record", "recordings", "eval", "judge", "campaign", "votes", "leaderboard", "verdict", "models",
)  # fmt: skip

# Job kind → handler, which the worker imports for the first such job.
JOB_HANDLERS = {
    "judge": "evals.jobs:run_judge_job",
    "evaluate": "evals.jobs:run_evaluation_job",
    "eval-run": "evals.eval_runs.run_job:run_eval_run_job",
    "record": "evals.jobs:run_record_job",
    "batch": "serve.batches.batch_job:run_batch_job",
    "prepare-campaign": "evals.jobs:run_preparation_job",
    "train": "train.worker.jobs:run_train_job",
    "fine-tune": "train.finetuning.training_job:run_fine_tuning",
    "fine-tune-check": "train.finetuning.validation:run_check",
    **dict.fromkeys(("import-model", "merge-model", "export-model"), "train.worker.model_jobs:run_model_job"),
}
# One training at a time, in a lane of its own, so that short jobs do not wait for it; raters wait for preparations.
JOB_LANES = (
    ("train", "fine-tune"),
    ("prepare-campaign",),
    ("eval-run",),
    ("import-model", "merge-model", "export-model"),
    *[("batch",)] * 4,  # a batch may wait for a slow model for hours, which costs the worker little
)

# Functions (settings, database) -> Starlette routes, mounted on the gateway.
API_ROUTES = ("models.api:routes", "train.api:routes", "serve.api:routes", "evals.api:routes")


class _OrderedGroup(TyperGroup):
    """Lists the commands in `COMMAND_ORDER`."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(self.commands, key=lambda name: (*COMMAND_ORDER, name).index(name))


@functools.cache
def build() -> typer.Typer:
    """The whole command, with the commands of every room."""
    import evals.cli
    import models.cli
    import serve.cli
    import train.cli
    import ui.cli
    from evals.commands.record import record_command
    from models.commands.models import WeightTools
    from train.clouds.rescue_command import rescue_command

    app = typer.Typer(
        name="parley",
        cls=_OrderedGroup,
        help="Train, serve, compare and judge your own chat models behind an OpenAI-compatible API.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
    )
    models.cli.add_commands(
        app, _recorded_coverage, WeightTools(_weight_tool("merge_adapter"), _weight_tool("unpack_gguf"))
    )
    serve.cli.add_commands(app, api_routes)
    for room in (train.cli, evals.cli, ui.cli):
        room.add_commands(app)
    app.command("rescue")(rescue_command(_compare, _record_answers))
    app.command("record")(record_command(_provider_prices))
    app.command("demo")(demo)
    app.command("demo-content", hidden=True)(demo_content)
    app.command("worker")(worker)
    unwrap_help(app)
    return app


def _compare(database: "Database", rows: "Sequence[dict[str, Any]]", source: str) -> int:
    """Adds prompts for a blind comparison; returns how many are new. `train` needs it and may not import `evals`."""
    from evals.votes.prompts import add_prompts

    return add_prompts(database, rows, source)


def _record_answers(offer: "RecordingOffer") -> str | None:
    """Records a hosted model's answers for a rescue: three samples, as `parley record` does."""
    from evals.campaigns.answers import ANSWER_TOKENS
    from evals.recordings.costs import Prices, with_prices
    from evals.recordings.recorder import record_served
    from evals.recordings.recording_request import RecordingRequest, plan_recording
    from evals.votes.prompts import recorded_prompts
    from models.registry.registry import Registry

    spec = Registry(offer.database).resolve(offer.model)
    prices = _provider_prices(spec.upstream.model) if spec.upstream else None
    request = RecordingRequest(
        spec=with_prices(spec, Prices(*prices) if prices else None),
        prompts=recorded_prompts(offer.database, offer.prompts),
        parameters={"max_tokens": ANSWER_TOKENS},
        training=offer.training,
        max_usd=offer.max_usd,
    )
    plan = plan_recording(offer.database, request)
    if plan.left.requests and offer.max_usd is None and not offer.consent(plan.left.text):
        return None
    done = record_served(offer.settings, offer.database, request)
    return done.recording.coverage + (f" (stopped: {done.stopped})" if done.stopped else "")


def _recorded_coverage(database: "Database") -> dict[str, str]:
    """How much is recorded of each model that is shut down. `models` shows it and may not import `evals`."""
    from evals.recordings.coverage import shutdown_coverage

    return shutdown_coverage(database)


def _weight_tool(name: str) -> "Callable[[Home, NewModel], ModelSpec]":
    """A function of `train.publication.foreign_models`, which `models` needs and may not import."""

    def work(home: "Home", new: "NewModel") -> "ModelSpec":
        from models.settings.environment import let_openmp_threads_sleep

        let_openmp_threads_sleep()
        from train.display import terminal_lines

        tool = getattr(import_module("train.publication.foreign_models"), name)
        return tool(home.registry, home.settings, new, terminal_lines())

    return work


def _provider_prices(model: str) -> tuple[float, float] | None:
    """A hosted model's US dollars per million input and output tokens; None where unknown.

    `evals` needs them and may not import `train`.
    """
    from models.errors import NotFound
    from train.planning.pricing import find_price

    try:
        price = find_price(model)
    except NotFound:
        return None
    return None if price.input is None or price.output is None else (price.input, price.output)


def api_routes(settings: "Settings", database: "Database") -> "list[BaseRoute]":
    """The routes of every room, imported when the gateway starts."""
    routes: list[BaseRoute] = []
    for name in API_ROUTES:
        module, _, function = name.partition(":")
        routes += getattr(import_module(module), function)(settings, database)
    return routes


@settings_options(dict.fromkeys(("port", "page_port")))
def demo(
    base: Annotated[
        str | None,
        typer.Option(
            help="Another base: a hub id such as Qwen/Qwen3-0.6B, a folder, or a registered model. The demo's two "
            "styles are trained on it first.",
            show_default=False,
        ),
    ] = None,
    no_page: Annotated[bool, typer.Option("--no-page", help="Start without the page.")] = False,
    no_worker: Annotated[bool, typer.Option("--no-worker", help="Start without the worker.")] = False,
    make_owner_key: Annotated[
        bool, typer.Option("--make-owner-key", help="Create an owner's key and print it if there is no key yet.")
    ] = False,
    **ports: Any,
) -> None:
    """Start Parley with its demo: small models, a toy judge, prompts to vote on. No GPU or key needed.

    With --base, the demo runs on a model of your choice: a hub id is downloaded, two styles are trained on the model
    (the output begins with an estimate of the time), one is merged, and all are served.

      parley demo --base Qwen/Qwen3-0.6B
    """
    from models.settings.settings import load_settings
    from serve import up

    prepare = functools.partial(_prepare_demo, base=base)
    up(
        load_settings(**ports),
        prepare=prepare,
        page=not no_page,
        worker=not no_worker,
        make_owner_key=make_owner_key,
    )


def _prepare_demo(settings: "Settings", report: Callable[[str], None], base: str | None = None) -> None:
    """Installs the demo's models and prompts in a process of its own, because training and merging need torch."""
    from evals.campaign_tables import OPEN_CAMPAIGN, CampaignRow
    from models.database import open_database
    from models.demo import OtherBase, fitting
    from models.registry.registry import Registry
    from serve.launcher.demo_content import run_demo_content

    database = open_database(settings)
    specs = Registry(database).list(include_retired=True)
    names = OtherBase(base).models if base else tuple(model.id for model in fitting(specs))
    complete = {spec.id for spec in specs}.issuperset(names)
    with database.read() as session:
        votable = session.get_one(CampaignRow, OPEN_CAMPAIGN).opened is not None
    database.dispose()
    if complete and votable:
        return
    if complete:
        report("Opening the demo's models to votes")
    else:
        report(f"First start on {base}" if base else "First start: merging the demo's models")
    run_demo_content(settings, report, ("--base", base) if base else ())


def demo_content(
    base: Annotated[str | None, typer.Option(help="Another base, as in `parley demo`.", show_default=False)] = None,
) -> None:
    """Install the demo's models and prompts in the home, without starting anything."""
    import models.demo
    from models.settings.environment import let_openmp_threads_sleep
    from models.terminal import open_home
    from serve.launcher.demo_content import print_progress

    if base:
        let_openmp_threads_sleep()
    with open_home() as home:
        if base:
            from train.demo.other_base import install_styles

            other = models.demo.OtherBase(base)
            install_styles(other, settings=home.settings, registry=home.registry, report=print_progress)
            names = other.models
        else:
            specs = home.registry.list(include_retired=True)
            fitting = models.demo.fitting(specs)
            for model in fitting:
                if model.id not in {spec.id for spec in specs}:
                    _install(model, home)
                    typer.echo(f"{model.id} is registered as {model.kind}.")
            names = tuple(model.id for model in fitting if model.voted)
        _add_demo_prompts(home.database)
        _open_to_votes(home, names, join=base is not None)


def _open_to_votes(home: "Home", names: Sequence[str], *, join: bool = False) -> None:
    """Opens the campaign `open`, which is at /vote, with the demo's models, unless it has opened before.

    With `join` they join it also if it is open.
    """
    from evals.campaigns.campaign import OPEN
    from evals.campaigns.lifecycle import add_model, load_campaign

    listed = {spec.id for spec in home.registry.list()}
    if join or load_campaign(home.database, OPEN).opened is None:
        for name in names:
            if name in listed:
                add_model(home.database, OPEN, name)


def _add_demo_prompts(database: "Database") -> None:
    """Stores the demo's prompts. A home that has some keeps them: its votes belong to them."""
    import models.demo
    from evals.votes.prompts import add_prompts, prompts

    if not any(prompt.source == "demo" for prompt in prompts(database)):
        add_prompts(database, models.demo.PROMPTS, source="demo")


def _install(model: "DemoModel", home: "Home") -> None:
    from models.demo import BASE
    from models.files.atomic import publish_folder
    from models.registry.registry import parse_spec
    from models.weights import read_lora_rank

    parity = None
    with publish_folder(home.settings.models_dir) as pending:
        if model.kind == "merged":
            from train.publication.merge import merge
            from train.trainers.bases import find_base

            parity = merge(find_base(BASE, home.registry), model.weights, pending.path).parity
            parity = parity.model_copy(update={"not_served": "no engine was running when the demo was installed"})
        else:
            shutil.copytree(model.weights, pending.path, dirs_exist_ok=True)
    home.registry.register(
        parse_spec(
            id=model.id,
            kind=model.kind,
            path=str(pending.final),
            base=None if model.kind == "base" else BASE,
            parent=None if model.kind == "base" else BASE,
            lora_rank=read_lora_rank(model.weights) if model.kind == "adapter" else None,
            description=model.description,
            bot=model.bot,
            judge=model.judge,
            toy=True,
            parity=parity,
        )
    )


def worker() -> None:
    """Run the jobs that the page and the API enqueue. `parley up` starts this."""
    from models.audit import Actor, set_actor
    from models.database import open_database
    from models.evaluation_events import open_evaluation_events
    from models.jobs.worker import run_worker
    from models.settings.settings import load_settings

    settings = load_settings()
    set_actor(lambda: Actor("worker"))
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr
    )
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    database = open_database(settings)
    database.check_current()
    close_events = open_evaluation_events(settings)
    try:
        run_worker(settings, database, JOB_HANDLERS, stop=stop, lanes=JOB_LANES)
    finally:
        close_events()


def main() -> None:
    """Runs the command. A user's mistake, like any known error, is one line on standard error."""
    exit_on_termination()
    try:
        status = build()(prog_name="parley", standalone_mode=False)
    except ParleyError as error:
        print(f"parley: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except typer.TyperException as error:
        # A group without a subcommand has printed its help already.
        if type(error).__name__ != "NoArgsIsHelpError":
            print(f"parley: {usage_message(error)}", file=sys.stderr)
        sys.exit(getattr(error, "exit_code", 2))
    except typer.Abort:
        sys.exit(1)
    except KeyboardInterrupt:
        print(file=sys.stderr)
        sys.exit(130)
    except MemoryError:
        print("parley: Not enough memory: free some, or use a smaller model or file.", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:
        # The reader of a pipe (`| head`) has closed it.
        sys.exit(141)
    sys.exit(status or 0)


if __name__ == "__main__":
    main()
