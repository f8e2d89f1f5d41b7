"""This room's commands: `parley train`, `merge` and the group `data`. Light; torch is loaded when one runs."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from models.errors import Invalid
from models.terminal import Home, console, open_home
from train.clouds.commands import cloud_commands, train_on_cloud
from train.data.options import AsJson, expand_options
from train.data_cli import data_commands
from train.display import problems_shown, show_result
from train.model_commands import add_model_commands
from train.options import TrainOptions

if TYPE_CHECKING:
    from train.run.progress import Progress


def add_commands(app: typer.Typer) -> None:
    """Adds `train`, `merge`, the group `data`, and this room's commands of the group `models` to the app."""
    app.command("train")(expand_options(train_command))
    app.command("merge")(merge_command)
    app.add_typer(data_commands())
    app.add_typer(cloud_commands())
    add_model_commands(app)


def train_command(options: TrainOptions) -> None:
    """Fine-tune a chat model on the assistant's messages in your conversations, and serve the result.

    The data is checked first. Each problem is listed with its line and how to fix it; lines with errors are skipped.
    Every "auto" follows a rule, which is shown at the end.

      parley train tickets.jsonl --base demo-base --name support-v1

      parley train faq.csv --base Qwen/Qwen3-0.6B --name faq-v1 --kind merged --prompt-column question
      --response-column answer --system "You answer for the shop."

    A line of chat JSONL: {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}

    Less memory: --tune qlora. Preferences (votes, for example) afterwards, at a low learning rate:

      parley train pairs.jsonl --method dpo --base support-v1 --name support-v2

    A line of pairs: {"input": {"messages": […]}, "preferred_output": […], "non_preferred_output": […]}

    A run that was killed continues from its last checkpoint, and gives the same result as without the interruption:

      parley train --resume 01JQ4Z8E3K5V7W9XABCDEFGHJK

    To train in a cloud, add --on. The data is checked and priced first, and nothing is sent until you agree:

      parley train tickets.jsonl --base gpt-4o-mini-2024-07-18 --name support-v1 --on openai
    """
    if options.resume is not None:
        if any(value is not None for value in (options.data, options.base, options.name)):
            raise Invalid("--resume takes everything from the run: leave DATA, --base and --name out.", param="resume")
        _train_here(options)
        return
    options.require()
    if options.on == "local":
        _train_here(options)
        return
    request = options.request()
    with problems_shown(options.as_json):
        train_on_cloud(options.on, request, options.lr_multiplier, yes=options.yes, as_json=options.as_json)


def _train_here(options: TrainOptions) -> None:
    request = None if options.resume else options.request()
    with _open_home() as home, problems_shown(options.as_json):
        from train.training import resume, train

        with _progress(options.as_json) as progress:
            if request is None:
                run = str(options.resume)
                result = resume(run, settings=home.settings, registry=home.registry, progress=progress)
            else:
                result = train(request, settings=home.settings, registry=home.registry, progress=progress)
        if options.as_json:
            typer.echo(json.dumps(result.as_json(), ensure_ascii=False))
        else:
            show_result(result, home.settings.gateway_url)


def merge_command(
    adapter: Annotated[str, typer.Argument(help="An adapter of `parley models list`.")],
    name: Annotated[str, typer.Option(help="The id of the merged model.")],
    as_json: AsJson = False,
) -> None:
    """Merge an adapter into its base, and serve the weights on an engine of their own.

    A merged model is faster: 2.4 times the throughput of the adapter on a CPU. The merge is made in float32 and
    refused if the merged and unmerged logits differ by more than rounding error.

      parley merge support-v1 --name support-v1-merged
    """
    with _open_home() as home:
        from train.publication.publish import publish_merge

        merged = publish_merge(adapter, name, registry=home.registry, settings=home.settings)
    if as_json:
        values = {"model": merged.model, "folder": str(merged.folder), "difference": merged.difference}
        typer.echo(json.dumps(values | {"agreement": merged.agreement}))
        return
    from rich.markup import escape

    terminal = console()
    model, folder = escape(merged.model), escape(str(merged.folder))
    terminal.print(
        f"[bold]{model}[/bold] is merged: its float32 logits differ from the adapter's by at most "
        f"{merged.difference:.1e}, and as stored it predicts the same next token at {merged.agreement:.1%} of the "
        "probe positions."
    )
    terminal.print(f"The weights are in {folder}. `parley up` serves them as [bold]{model}[/bold].")


@contextmanager
def _open_home() -> Iterator[Home]:
    """The home, once the environment is set for torch, which is not loaded yet."""
    from models.settings import let_openmp_threads_sleep

    let_openmp_threads_sleep()
    with open_home() as home:
        yield home


@contextmanager
def _progress(as_json: bool) -> "Iterator[Progress]":
    from train.run.progress import PlainLines, Terminal, silent

    if as_json:
        yield silent
    elif sys.stdout.isatty():
        with Terminal(console()) as terminal:
            yield terminal
    else:
        yield PlainLines()
