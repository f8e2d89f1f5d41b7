"""The front door: the `parley` command. It hangs each room's commands on one app and assembles the rooms.

Room commands import what they need when they run, so `parley --help` loads none of torch, vllm, gradio and
transformers. This is the one place where an error becomes a line on a terminal.
"""

import logging
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from models.errors import ParleyError

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

    from models.database import Database
    from models.demo import DemoModel
    from models.registry import Registry
    from models.settings import Settings

# The commands as `parley --help` lists them, from the first look to the housekeeping; the rest come last.
STORY = (
    "demo",
    "up",
    "status",
    "page",
    "data",
    "train",
    "cloud",
    "rescue",
    "merge",
    "generate",
    "prompts",
    "eval",
    "judge",
    "votes",
    "leaderboard",
    "verdict",
    "models",
)

# Which function does a job of which kind: named here, imported by the worker when the first such job comes.
JOB_HANDLERS = {
    "judge": "evals.jobs:run_judge_job",
    "evaluate": "evals.jobs:run_evaluation_job",
    "train": "train.jobs:run_train_job",
    "fine-tune": "train.finetuning.running:run_fine_tuning",
    "fine-tune-check": "train.finetuning.validating:run_check",
}
# One training at a time, and nothing else waits for it: a judge's run or a check goes on beside it.
JOB_LANES = (("train", "fine-tune"),)


# Which rooms have routes for the gateway: each names a function (settings, database) -> Starlette routes.
API_ROUTES = ("models.api:routes", "train.api:routes")


class _InTheOrderOfTheStory(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(self.commands, key=lambda name: STORY.index(name) if name in STORY else len(STORY))


def build() -> typer.Typer:
    """The whole command: every room's commands on one app."""
    import evals.cli
    import models.cli
    import serve.cli
    import train.cli
    import ui.cli
    from train.clouds.rescue_command import rescue_command

    app = typer.Typer(
        name="parley",
        cls=_InTheOrderOfTheStory,
        help="Train, serve, compare and judge your own chat models, behind the OpenAI SDK.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
    )
    models.cli.add_commands(app)
    serve.cli.add_commands(app, api_routes)
    for room in (train.cli, evals.cli, ui.cli):
        room.add_commands(app)
    app.command("rescue")(rescue_command(_compare))
    app.command("demo")(demo)
    app.command("demo-content", hidden=True)(demo_content)
    app.command("worker", hidden=True)(worker)
    return app


def _compare(database: "Database", rows: "Sequence[dict[str, Any]]", source: str) -> int:
    """Prompts for a blind comparison; says how many were new. `train` needs it and may not know `evals`."""
    from evals.votes.prompts import add_prompts

    return add_prompts(database, rows, source)


def api_routes(settings: "Settings", database: "Database") -> "list[BaseRoute]":
    """The routes of every room that has some, for the gateway: imported when the gateway starts, light to import."""
    found: list[BaseRoute] = []
    for name in API_ROUTES:
        module, _, function = name.partition(":")
        found += getattr(import_module(module), function)(settings, database)
    return found


def demo(
    port: Annotated[int | None, typer.Option(help="The gateway's port (8000 without it).")] = None,
    page_port: Annotated[int | None, typer.Option(help="The page's port (7860 without it).")] = None,
    no_page: Annotated[bool, typer.Option("--no-page", help="Start without the page.")] = False,
    no_worker: Annotated[bool, typer.Option("--no-worker", help="Start without the worker.")] = False,
) -> None:
    """Start Parley with its demo: four small models, prompts to vote on, a toy judge. No GPU, no key, no hub."""
    from models.settings import load_settings
    from serve import up

    settings = load_settings(port=port, page_port=page_port)
    up(settings, prepare=_demo_content, page=not no_page, worker=not no_worker)


def _demo_content(settings: "Settings", say: Callable[[str], None]) -> None:
    """Puts the demo's models and prompts into the home, in a process of its own: merging needs torch, `up` does not."""
    from models.database import open_database
    from models.demo import catalogue
    from models.registry import Registry
    from models.settings import child_environment
    from serve.processes.children import own_command, spawn

    database = open_database(settings)
    known = {spec.id for spec in Registry(database).list(include_retired=True)}
    database.dispose()
    if all(model.id in known for model in catalogue()):
        return
    say("First start: merging the demo's models")
    # Under a guardian, as everything that `up` starts: whoever is killed meanwhile, nothing goes on merging.
    command = own_command("demo-content", "demo-content", environment=child_environment(settings))
    process = spawn(command, settings.logs_dir)
    try:
        while (code := process.exit_code()) is None:
            time.sleep(0.1)
    finally:
        process.stop()
    if code:
        last = process.last_words() or "no reason given"
        raise ParleyError(f"The demo's content could not be installed: {last.removeprefix('parley: ')}")


def demo_content() -> None:
    """Put the demo's models and prompts into the home, without starting anything."""
    import models.demo
    from models.cli import opened
    from models.registry import Registry

    settings, database = opened()
    registry = Registry(database)
    known = {spec.id for spec in registry.list(include_retired=True)}
    for model in models.demo.catalogue():
        if model.id not in known:
            _install(model, registry, settings)
            typer.echo(f"{model.id} is registered as {model.kind}.")
    _add_demo_prompts(database)


def _add_demo_prompts(database: "Database") -> None:
    """Stores the demo's prompts. A home that has some keeps them: its votes belong to them."""
    import models.demo
    from evals.votes.prompts import add_prompts, prompts

    if not any(prompt.source == "demo" for prompt in prompts(database)):
        add_prompts(database, models.demo.PROMPTS, source="demo")


def _install(model: "DemoModel", registry: "Registry", settings: "Settings") -> None:
    from models.demo import BASE
    from models.folders import publish_folder
    from models.registry import parse_spec
    from train.publishing import adapter_facts

    parity = None
    with publish_folder(settings.models_dir) as pending:
        if model.kind == "merged":
            from train.bases import find_base
            from train.merging import merge

            parity = merge(find_base(BASE, registry), model.weights, pending.path).parity
            parity = parity.model_copy(update={"not_served": "no engine ran yet when the demo was installed"})
        else:
            shutil.copytree(model.weights, pending.path, dirs_exist_ok=True)
    registry.register(
        parse_spec(
            id=model.id,
            kind=model.kind,
            path=str(pending.final),
            base=None if model.kind == "base" else BASE,
            parent=None if model.kind == "base" else BASE,
            lora_rank=adapter_facts(model.weights)["r"] if model.kind == "adapter" else None,
            description=model.description,
            bot=model.bot,
            judge=model.judge,
            toy=True,
            parity=parity,
        )
    )


def worker() -> None:
    """Run the long jobs that the page and the API enqueue. `parley up` starts it."""
    from models.database import open_database
    from models.settings import load_settings
    from models.worker import run_worker

    settings = load_settings()
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr
    )
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    database = open_database(settings)
    database.check_current()
    run_worker(settings, database, JOB_HANDLERS, stop=stop, lanes=JOB_LANES)


def main() -> None:
    """Runs the command. A user's mistake, or a fault that can be told, is one line on standard error."""
    try:
        build()()
    except ParleyError as error:
        print(f"parley: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print(file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # The reader (`| head`) has gone: nothing to say, and nobody to say it to.
        sys.exit(141)


if __name__ == "__main__":
    main()
