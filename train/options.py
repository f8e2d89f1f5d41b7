"""The options of `parley train`: their flags, defaults and help, and their translation into a TrainingRequest.

Light: what the translation needs is loaded when the command runs.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from models.errors import Invalid
from models.terminal import parse_number
from train.data.options import (
    FILES_HELP,
    AsJson,
    ChatTemplate,
    Encoding,
    FoldSystem,
    Format,
    PerTurn,
    PromptColumn,
    ResponseColumn,
    Separator,
    System,
    SystemColumn,
)

if TYPE_CHECKING:
    from train.hyperparameters import Hyperparameters
    from train.request import TrainingRequest

_WHAT, _HOW, _MACHINE, _MACHINES = "What learns", "How", "On this machine", "On several machines"  # panels of --help


def _option(text: str, panel: str | None = None, *flags: str, **more: Any) -> Any:
    return typer.Option(*flags, help=text, rich_help_panel=panel, **more)


@dataclass(frozen=True)
class TrainOptions:
    """The command line of `parley train`. Numbers are text, because they may be "auto"."""

    data: Annotated[
        Path | None,
        typer.Argument(
            help=f"Conversations, as OpenAI's chat rows or in another format (see --format), in {FILES_HELP}. "
            "For --method dpo: pairs of answers. For --method kto: answers labelled good or bad."
        ),
    ] = None
    base: Annotated[
        str | None,
        _option("The model to start from: an id of `parley models list`, a folder, or a hub id (owner/name)."),
    ] = None
    name: Annotated[
        str | None, _option("The id that clients send as `model`. A name stands for one version and cannot be reused.")
    ] = None
    chat_template: ChatTemplate = None
    trust_remote_code: Annotated[
        bool, _option("Run code that comes with the base. Read it first.", None, "--trust-remote-code")
    ] = False
    kind: Annotated[str, _option("adapter: runs on its base's engine. merged: runs on its own engine, faster.")] = (
        "adapter"
    )
    method: Annotated[
        str,
        _option(
            "sft: train on the assistant's answers. dpo: on pairs of a preferred and another answer. kto: on answers "
            "labelled good or bad.",
            _WHAT,
        ),
    ] = "sft"
    tune: Annotated[
        str,
        _option(
            "lora: a small adapter. qlora: an adapter over a base held in 4 bits, for less memory. full: every weight, "
            "published as a separate model.",
            _WHAT,
        ),
    ] = "lora"
    rank: Annotated[str, _option("Rank of the adapter, or auto; above 64 it is merged.", _WHAT)] = "auto"
    rslora: Annotated[bool, _option("Scale by alpha / √rank: for high ranks.", _WHAT, "--rslora")] = False
    dora: Annotated[
        bool, _option("Train each weight's magnitude and direction separately: slower, and merged.", _WHAT, "--dora")
    ] = False
    beta: Annotated[str, _option("dpo, kto: cost of drifting from the base (KL penalty), or auto.", _WHAT)] = "auto"
    epochs: Annotated[str, _option("Passes through the data, or auto.", _HOW)] = "auto"
    lr: Annotated[str, _option("Learning rate, or auto.", _HOW, "--lr")] = "auto"
    batch_size: Annotated[
        str,
        _option("Conversations (or pairs) per step, or auto. If they do not fit into memory, they are split.", _HOW),
    ] = "auto"
    max_length: Annotated[
        str, _option("Longest conversation in tokens, or auto; longer ones are left out and listed.", _HOW)
    ] = "auto"
    schedule: Annotated[str, _option("Learning rate after the warm-up: cosine, linear or constant.", _HOW)] = "cosine"
    early_stopping: Annotated[
        int | None,
        _option("Stop after this many validations without a better loss, and restore the best weights.", _HOW, min=1),
    ] = None
    validate_every: Annotated[
        str, _option("Steps between validations, or auto: each epoch, or four per epoch with --early-stopping.", _HOW)
    ] = "auto"
    seed: Annotated[int, _option("The same seed gives the same split and result (on one machine).", _HOW)] = 0
    packing: Annotated[
        str,
        _option(
            "packed: rows end to end without padding, isolated from each other. length: padded, with rows of similar "
            "length. auto: the faster one here.",
            _MACHINE,
        ),
    ] = "auto"
    precision: Annotated[str, _option("bf16, fp16, fp32, or auto: the best one for this device.", _MACHINE)] = "auto"
    checkpointing: Annotated[
        bool | None,
        _option(
            "Recompute activations instead of storing them: less memory, a third slower. Default: by model size.",
            _MACHINE,
            "--checkpointing/--no-checkpointing",
        ),
    ] = None
    gpus: Annotated[int, _option("Processes that share each batch, one per GPU of this machine.", _MACHINE, min=1)] = 1
    shard: Annotated[
        str,
        _option(
            "fsdp: the processes divide one copy of a LoRA's base. none: each holds a copy. auto: fsdp if the base "
            "does not fit on one GPU. fsdp has not been tested on GPUs yet.",
            _MACHINE,
        ),
    ] = "auto"
    plan: Annotated[
        bool,
        _option(
            "Only show the memory per GPU, the time, and what --shard auto would choose; nothing is trained.",
            None,
            "--plan",
        ),
    ] = False
    threads: Annotated[int | None, _option("CPU threads. Default: half of the cores, at least 2.", _MACHINE, min=1)] = (
        None
    )
    validation: Annotated[float, _option("Share held out to measure the loss; 0 for none.", "Data")] = 0.1
    prompt_column: PromptColumn = "prompt"
    response_column: ResponseColumn = "response"
    system_column: SystemColumn = None
    system: System = None
    fold_system: FoldSystem = False
    separator: Separator = "auto"
    format: Format = "auto"
    encoding: Encoding = None
    per_turn: PerTurn = False
    tracker: Annotated[
        list[str] | None, _option("wandb, tensorboard or trackio; can be repeated. Default: none.", "Trackers")
    ] = None
    save_steps: Annotated[
        str,
        _option("Steps between checkpoints; auto: about 3 minutes. Each epoch ends with one anyway.", "Interrupted"),
    ] = "auto"
    resume: Annotated[
        str | None, _option("Continue an interrupted run (its id or folder) with its own settings.", "Interrupted")
    ] = None
    on: Annotated[
        str,
        _option(
            "Where to train: local, openai or together (the model is then served as hosted), or on --nodes machines of "
            "a Ray cluster: auto (this machine's) or ray://HOST:10001.",
            None,
            "--on",
        ),
    ] = "local"
    lr_multiplier: Annotated[float | None, _option("OpenAI's learning_rate_multiplier.", "Clouds", min=0.0001)] = None
    yes: Annotated[bool, _option("Accept the price without asking.", "Clouds", "--yes")] = False
    as_json: AsJson = False

    @property
    def on_ray(self) -> bool:
        """Whether it trains on a Ray cluster."""
        return self.on == "auto" or self.on.startswith("ray://")

    def require(self) -> None:
        """Raises Invalid if an option is missing, or has no use where the training runs."""
        for value, flag in ((self.data, "DATA"), (self.base, "--base"), (self.name or self.plan or None, "--name")):
            if value is None:
                raise Invalid(f"{flag} is missing. See `parley train --help`.", param=flag.strip("-").lower())
        if self.on == "local" or self.on_ray:
            if self.lr_multiplier is not None:
                raise Invalid("--lr-multiplier is OpenAI's: use --lr, or --on openai.", param="lr-multiplier")
            return
        for used, flag in (
            (self.kind != "adapter", "--kind"),
            (self.threads, "--threads"),
            (self.save_steps != "auto", "--save-steps"),
            (self.tracker, "--tracker"),
            (self.gpus > 1, "--gpus"),
            (self.shard != "auto", "--shard"),
            (self.plan, "--plan"),
            (self.format != "auto", "--format"),
            (self.per_turn, "--per-turn"),
            (self.chat_template, "--chat-template"),
            (self.trust_remote_code, "--trust-remote-code"),
        ):
            if used:
                raise Invalid(f"{flag} is for local training: leave it out with --on {self.on}.", param=flag.strip("-"))

    def request(self) -> "TrainingRequest":
        """The training that the options describe.

        Raises:
            Invalid: a value is not allowed.
        """
        from models.chat_templates import read_template
        from train.data.readers import Columns
        from train.request import TrainingRequest

        columns = Columns(
            self.prompt_column, self.response_column, self.system_column, self.system, self.encoding, self.fold_system,
            self.separator,
        )  # fmt: skip
        shard = "none" if self.shard == "auto" else self.shard
        # TrainingRequest checks these.
        values: dict[str, Any] = {"method": self.method, "kind": self.kind, "shard": shard}
        return TrainingRequest(
            data=str(self.data),
            base=str(self.base),
            name=self.name,
            hyperparameters=self._hyperparameters(),
            validation=self.validation,
            columns=columns,
            chat_template=read_template(self.chat_template) if self.chat_template else None,
            trust_remote_code=self.trust_remote_code,
            format=self.format,
            per_turn=self.per_turn,
            trackers=tuple(self.tracker or ()),
            gpus=self.gpus,
            threads=self.threads,
            save_steps=parse_number(self.save_steps, "save-steps", int),
            **values,
        )

    def _hyperparameters(self) -> "Hyperparameters":
        from train.hyperparameters import Hyperparameters

        values = {
            "schedule": self.schedule, "tune": self.tune, "packing": self.packing, "precision": self.precision,
        }  # fmt: skip
        return Hyperparameters.from_dict(
            values
            | {
                "epochs": parse_number(self.epochs, "epochs", float),
                "rank": parse_number(self.rank, "rank", int),
                "learning_rate": parse_number(self.lr, "lr", float),
                "batch_size": parse_number(self.batch_size, "batch-size", int),
                "max_length": parse_number(self.max_length, "max-length", int),
                "seed": self.seed,
                "rslora": self.rslora,
                "dora": self.dora,
                "beta": parse_number(self.beta, "beta", float),
                "checkpointing": "auto" if self.checkpointing is None else self.checkpointing,
                "early_stopping": self.early_stopping,
                "validate_every": parse_number(self.validate_every, "validate-every", int),
            }
        )


@dataclass(frozen=True)
class NodeOptions:
    """The options of a training on several machines."""

    nodes: Annotated[
        int,
        _option(
            "Machines that share each batch. Start the same command on each of them, with its own --node-rank.",
            _MACHINES,
            "--nodes",
            "--nnodes",
            min=1,
        ),
    ] = 1
    node_rank: Annotated[
        int | None,
        _option("This machine's number, from 0. Node 0 writes the run and publishes the model.", _MACHINES, min=0),
    ] = None
    rendezvous: Annotated[
        str | None,
        _option(
            "HOST:PORT at which the other nodes reach node 0. The port must be free on node 0.",
            _MACHINES,
            "--rendezvous",
            "--rdzv-endpoint",
        ),
    ] = None
    rendezvous_timeout: Annotated[
        float | None,
        _option(
            "Seconds to wait for all nodes to join: 600 by default. On a Ray cluster, also for free machines, 60 by "
            "default.",
            _MACHINES,
            min=1,
        ),
    ] = None
