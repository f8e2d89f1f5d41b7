"""The front door: the `parley` command. It hangs each room's commands on one app and assembles the rooms.

Room commands import what they need when they run, so `parley --help` loads none of torch, vllm, gradio and
transformers. This is the one place where an error becomes a line on a terminal.
"""

import logging
import signal
import sys
import threading
from typing import Annotated

import typer

# Which function does a job of which kind: named here, imported by the worker when the first such job comes.
JOB_HANDLERS = {"judge": "evals.jobs:run_judge_job", "train": "train.jobs:run_train_job"}


def build() -> typer.Typer:
    """The whole command: every room's commands on one app."""
    import evals.cli
    import serve.cli
    import train.cli

    import models.cli
    import ui.cli

    app = typer.Typer(
        name="parley",
        help="Train, serve, compare and judge your own chat models, behind the OpenAI SDK.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
    )
    for room in (serve.cli, train.cli, evals.cli, models.cli, ui.cli):
        room.add_commands(app)
    app.command("demo")(demo)
    app.command("worker", hidden=True)(worker)
    return app


def demo(
    port: Annotated[int | None, typer.Option(help="The gateway's port.")] = None,
    page_port: Annotated[int | None, typer.Option(help="The page's port.")] = None,
) -> None:
    """Start Parley with its demo models, prompts and judge, and say where to click."""
    import demo as content

    from models.settings import load_settings
    from serve import up

    settings = load_settings(port=port, page_port=page_port)
    up(settings, prepare=content.install)


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
    run_worker(settings, database, JOB_HANDLERS, stop=stop)


def main() -> None:
    """Runs the command. A user's mistake, or a fault that can be told, is one line on standard error."""
    from models.errors import ParleyError

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
