"""`parley train`, `merge`, `data …`, `cloud …`, and `models check`, `push` and `export`. Light until one runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from models.command_options import expand_options
from models.errors import Invalid
from models.terminal import Home, console, open_home, print_json
from train.clouds.commands import cloud_commands, train_on_cloud
from train.data.options import AsJson
from train.data_cli import data_commands
from train.display import open_progress, problems_shown, show_node_result, show_result
from train.options import NodeOptions, TrainOptions

if TYPE_CHECKING:
    from rich.table import Table

    from train.publication.push import Push
    from train.request import TrainingRequest
    from train.run.node import Node


def add_commands(app: typer.Typer) -> None:
    """Adds `train`, `merge`, the group `data`, and this room's commands of the group `models` to the app."""
    app.command("train")(expand_options(train_command))
    app.command("merge")(merge_command)
    app.add_typer(data_commands())
    app.add_typer(cloud_commands())
    # The group belongs to the room models/, which must not import this one.
    group = next((group.typer_instance for group in app.registered_groups if group.name == "models"), None)
    if group is not None:
        group.command("check")(check_command)
        group.command("push")(push_command)
        group.command("export")(export_command)


def train_command(options: TrainOptions, places: NodeOptions) -> None:
    """Fine-tune a chat model on the assistant's messages in your conversations, and serve the result.

    The data is checked first. Each problem is listed with its line and how to fix it; lines with errors are skipped.
    Every "auto" follows a rule, which is shown at the end.

      parley train tickets.jsonl --base demo-base --name support-v1

      parley train faq.csv --base Qwen/Qwen3-0.6B --name faq-v1 --kind merged --prompt-column question
      --response-column answer --system "You answer for the shop."

    A line of chat JSONL: {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}

    Less memory: --tune qlora. Preferences (votes, for example) afterwards, at a low learning rate:

      parley train pairs.jsonl --method dpo --base support-v1 --name support-v2

    A line with a pair: {"input": {"messages": […]}, "preferred_output": […], "non_preferred_output": […]}

    A line with a labelled answer, for --method kto: {"prompt": "…", "completion": "…", "label": false}

    A run that was killed continues from its last checkpoint, and gives the same result as without the interruption:

      parley train --resume 01JQ4Z8E3K5V7W9XABCDEFGHJK

    To train on several machines, start the same command on each. All of them need the base and the data; the first one,
    node 0, writes the run and publishes the model. This is node 1 of 2:

      parley train tickets.jsonl --base demo-base --name support-v1 --nodes 2 --node-rank 1 --rendezvous 10.0.0.7:29400

    To train on 2 machines of a Ray cluster:

      parley train tickets.jsonl --base demo-base --name support-v1 --on auto --nodes 2

    To see whether the training fits, and how several GPUs would hold the base:

      parley train tickets.jsonl --base Qwen/Qwen3-32B --gpus 8 --plan

    To train in a cloud, add --on. The data is checked and priced first, and nothing is sent until you agree:

      parley train tickets.jsonl --base gpt-4o-mini-2024-07-18 --name support-v1 --on openai
    """
    if options.resume is not None:
        if any(value is not None for value in (options.data, options.base, options.name)):
            raise Invalid("--resume takes everything from the run: leave DATA, --base and --name out.", param="resume")
        if options.plan:
            raise Invalid("--plan is for a new training: leave --resume out.", param="plan")
        if options.on_ray:
            _train_on_ray(options, places)
            return
        _train_here(options, _node(places))
        return
    options.require()
    if options.plan and (options.on == "local" or options.on_ray):
        _show_plan(options, places.nodes)
        return
    if options.on_ray:
        _train_on_ray(options, places)
        return
    node = _node(places)
    if options.on == "local":
        _train_here(options, node)
        return
    if node:
        raise Invalid(
            f"--nodes is for training on your own machines: leave it out with --on {options.on}.", param="nodes"
        )
    request = options.request()
    with problems_shown(options.as_json):
        train_on_cloud(options.on, request, options.lr_multiplier, yes=options.yes, as_json=options.as_json)


def _train_here(options: TrainOptions, node: "Node | None") -> None:
    request = None if options.resume else _with_shard(options, node.count if node else 1)
    if node:
        _train_as_node(request or str(options.resume), node, as_json=options.as_json)
        return
    with _open_home() as home, problems_shown(options.as_json):
        from models.home.instance import gateway_url
        from train.training import resume, train

        with open_progress(options.as_json) as progress:
            if request is None:
                run = str(options.resume)
                result = resume(run, settings=home.settings, registry=home.registry, progress=progress)
            else:
                result = train(request, settings=home.settings, registry=home.registry, progress=progress)
        if options.as_json:
            print_json(result.to_json())
        else:
            show_result(result, gateway_url(home.settings))


def _with_shard(options: TrainOptions, nodes: int) -> "TrainingRequest":
    """The request; with --shard auto, the base is divided if it does not fit on one GPU, as planned."""
    from dataclasses import replace

    request = replace(options.request(), nodes=nodes)
    if options.shard != "auto" or request.gpus * nodes == 1 or request.hyperparameters.tune != "lora":
        return request
    from train.planning.commands import optional_home
    from train.trainers.runtime import find_device

    with optional_home() as (settings, registry):
        if find_device(settings, request.gpus).kind == "cpu":
            return request
        from train.planning.plan import plan

        planned = plan(request, settings=settings, registry=registry, measure=False)
    return replace(request, shard=planned.spread.shard) if planned.spread else request


def _show_plan(options: TrainOptions, nodes: int) -> None:
    from dataclasses import replace

    from train.planning.commands import optional_home
    from train.planning.display import show_plan
    from train.planning.plan import plan

    with optional_home() as (settings, registry), problems_shown(options.as_json):
        planned = plan(replace(options.request(), nodes=nodes), settings=settings, registry=registry)
    if options.as_json:
        print_json(planned.to_json())
    else:
        show_plan(console(), planned)


def _node(places: NodeOptions) -> "Node | None":
    from train.run.node import parse_node

    return parse_node(places.nodes, places.node_rank, places.rendezvous, places.rendezvous_timeout)


def _train_as_node(request: "TrainingRequest | str", node: "Node", *, as_json: bool) -> None:
    with _open_home() as home, problems_shown(as_json):
        from models.home.instance import gateway_url
        from train.nodes import train_on_nodes
        from train.run.node import NodeResult

        with open_progress(as_json) as progress:
            result = train_on_nodes(request, node, settings=home.settings, registry=home.registry, progress=progress)
        if isinstance(result, NodeResult):
            show_node_result(result, as_json)
        elif as_json:
            print_json(result.to_json())
        else:
            show_result(result, gateway_url(home.settings))


def _train_on_ray(options: TrainOptions, places: NodeOptions) -> None:
    if places.node_rank is not None or places.rendezvous is not None:
        raise Invalid("On a Ray cluster, leave --node-rank and --rendezvous out: Ray places the nodes.", param="on")
    with _open_home() as home, problems_shown(options.as_json):
        from dataclasses import replace

        from models.home.instance import gateway_url
        from train.ray_job import RayJob, train_on_ray

        request = options.resume or replace(options.request(), nodes=places.nodes)
        gpus = 0 if home.settings.device == "cpu" else options.gpus
        job = RayJob(options.on, request, places.nodes, gpus, places.rendezvous_timeout)
        with open_progress(options.as_json) as progress:
            result = train_on_ray(job, home.settings, progress)
        if options.as_json:
            print_json(result.to_json())
        else:
            show_result(result, gateway_url(home.settings))


def merge_command(
    adapter: Annotated[str, typer.Argument(help="An adapter of `parley models list`; with --base, its folder.")],
    name: Annotated[str, typer.Option(help="The id of the merged model.")],
    base: Annotated[str | None, typer.Option(help="For an adapter that is not registered: its base's id.")] = None,
    as_json: AsJson = False,
) -> None:
    """Merge an adapter into its base, and serve the weights on an engine of their own.

    A merged model is faster: 2.4 times the throughput of the adapter on a CPU. The merge is made in float32 and
    refused if the merged and unmerged logits differ by more than rounding error.

      parley merge support-v1 --name support-v1-merged

      parley merge ./falcon-lora --base falcon --name support-v2
    """
    with _open_home() as home:
        from train.publication.publish import publish_merge

        merged = publish_merge(adapter, name, registry=home.registry, settings=home.settings, base=base)
    if as_json:
        values = {"model": merged.model, "folder": str(merged.folder), "difference": merged.difference}
        print_json(values | {"agreement": merged.agreement})
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
    from models.settings.environment import let_openmp_threads_sleep

    let_openmp_threads_sleep()
    with open_home() as home:
        yield home


def check_command(
    name: Annotated[str, typer.Argument(help="An adapter or a merged model of `parley models list --all`.")],
    as_json: AsJson = False,
) -> None:
    """Compare a model with float32 base + adapter, here and through vLLM; a candidate that passes is listed.

    The probes are held-out conversations of its training, if there are any. The comparison through vLLM needs a running
    `parley up`; without one it is left out, and the model's parity says so.

      parley models check support-v1
    """
    from models.commands.models import parity_table
    from train.display import terminal_lines
    from train.publication.acceptance import check_model
    from train.run.progress import silent

    out = console()
    lines = silent if as_json else terminal_lines()
    with open_home() as home:
        parity = check_model(name, registry=home.registry, settings=home.settings, progress=lines)
        state = home.registry.resolve(name).state
    if as_json:
        print_json({"model": name, "state": state} | parity.model_dump(mode="json"))
    else:
        out.print(parity_table(parity))
    if parity.refused:
        raise typer.Exit(1)


def push_command(
    name: Annotated[str, typer.Argument(help="A model of `parley models list` with weights on this machine.")],
    repo: Annotated[str, typer.Argument(help="The repository on the hub, owner/name. Created if it is missing.")],
    public: Annotated[bool, typer.Option("--public", help="Make a new repository visible to everybody.")] = False,
    as_json: AsJson = False,
) -> None:
    """Push a model to a hub with its card, private unless --public. The files are listed first.

    The token is read from HF_TOKEN. The training record and the probes name your data and are not pushed.

      parley models push support-v1 acme/support-v1
    """
    from rich.filesize import decimal
    from rich.markup import escape

    from train.publication.push import prepare_push, push

    out = console()
    with open_home() as home:
        planned = prepare_push(name, repo, registry=home.registry, settings=home.settings, public=public)
        if not as_json:
            out.print(_files_table(planned))
            visibility = "public" if public else "private"
            size = decimal(planned.size)
            out.print(f"Pushing {size} in {len(planned.files)} files to [bold]{escape(repo)}[/bold] ({visibility}).")
            if planned.stays:
                out.print(f"[dim]Not pushed, because they name your data: {escape(', '.join(planned.stays))}[/dim]")
        address = push(planned, home.settings)
    if as_json:
        print_json({"model": name, "repo": repo, "url": address, "bytes": planned.size})
    else:
        out.print(f"Pushed: {escape(address)}")


def export_command(
    name: Annotated[str, typer.Argument(help="A base or merged model with a folder on this machine.")],
    gguf: Annotated[Path, typer.Option("--gguf", help="The GGUF file to write.")],
    kind: Annotated[
        Literal["auto", "f32", "f16", "bf16", "q8_0"], typer.Option("--type", help="Number format of the weights.")
    ] = "auto",
    converter: Annotated[
        Path | None, typer.Option(help="llama.cpp's convert_hf_to_gguf.py. Default: the one on the PATH.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a model as a GGUF file for llama.cpp, Ollama or LM Studio, with llama.cpp's own converter.

    Without the converter, the error has the commands to run. An adapter must be merged first (`parley merge`).

      parley models export support-v1-merged --gguf support-v1.gguf --type q8_0
    """
    from rich.filesize import decimal
    from rich.markup import escape

    from train.publication.gguf_export import export_gguf

    with open_home() as home:
        done = export_gguf(home.registry.resolve(name), gguf, kind=kind, converter=converter)
    if as_json:
        print_json({"model": name, "file": str(done.file), "bytes": done.size})
    else:
        console().print(f"{escape(name)} is written to {escape(str(done.file))} ({decimal(done.size)}).")


def _files_table(planned: "Push") -> "Table":
    from rich.filesize import decimal
    from rich.table import Table

    table = Table("file", "size", box=None, header_style="bold")
    for name, size in planned.files:
        table.add_row(name, decimal(size))
    return table
