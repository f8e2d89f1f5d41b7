"""What one training is asked to do, as one frozen object: `train()`, the command, jobs and a resume all build it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

from models.errors import Invalid
from models.spec import BotProfile
from train.data.checks import Data
from train.data.readers import Columns
from train.hyperparameters import Hyperparameters, Method, check_method

Kind = Literal["adapter", "merged"]
SaveSteps = int | Literal["auto"]
Shard = Literal["none", "fsdp"]


@dataclass(frozen=True)
class TrainingRequest:
    """One training. Where it runs (settings, registry, folder) is not part of it.

    Args:
        data: a file (.jsonl, .csv, .tsv), or examples, conversations or `{"messages": …}` rows in memory.
        base: a registered model's id, a local folder, or a hub id.
        name: the id under which the result is published and served.
        method: "sft" trains on the assistant's answers; "dpo" on pairs of a preferred and another answer, and `data`
            is then preference rows, or `Preference`s; "kto" on answers labelled good or bad.
        kind: publish the adapter, on its base's engine, or weights merged with it, on an engine of their own. Some
            adapters can only be merged (see `publication.publish`).
        chat_template: the text of a Jinja template to use instead of the base's (`models.chat_templates.read_template`
            reads one by its name). The result is served with it.
        trust_remote_code: run code that comes with the base's weights.
        base_name: what adapter_config.json calls the base; by default its id or its folder's name.
        hyperparameters: each "auto" becomes a number by a rule that the result reports.
        validation: the share held out to measure the loss, 0 to 0.5; or separate data, like `data`.
        columns: the column names of a table, and a system text.
        format: the row format of the data (`train.data.formats` lists them); "auto" detects it.
        per_turn: learn each answer of a conversation as a separate example with the whole context before it.
        trackers: where metrics also go: "wandb", "tensorboard", "trackio", each installed by the user.
        gpus: processes that share each batch, one per GPU; on a CPU this is only a test. nodes: machines with so many
            GPUs each, which share each batch (`train.nodes`).
        shard: "none": each process holds the whole base. "fsdp": the processes divide one copy, for a LoRA on a base
            that does not fit on one GPU. Not yet tested on GPUs.
        threads: CPU threads; by default half of the cores, at least 2, because engines may use the others. The same
            number gives the same result, bit for bit.
        job, bot, description: stored in the published spec.
        save_steps: steps between checkpoints; "auto" saves about every three minutes. Each epoch ends with one anyway.

    Raises:
        Invalid: a value that is not allowed.
    """

    data: Data
    base: str | Path
    name: str | None = None
    method: Method = "sft"
    kind: Kind = "adapter"
    chat_template: str | None = None
    trust_remote_code: bool = False
    base_name: str | None = None
    hyperparameters: Hyperparameters = field(default_factory=Hyperparameters)
    validation: float | Data = 0.1
    columns: Columns | None = None
    format: str = "auto"
    per_turn: bool = False
    trackers: tuple[str, ...] = ()
    gpus: int = 1
    nodes: int = 1
    shard: Shard = "none"
    threads: int | None = None
    job: str | None = None
    bot: BotProfile | None = None
    description: str = ""
    save_steps: SaveSteps = "auto"

    def __post_init__(self) -> None:
        check_method(self.method)
        if self.kind not in ("adapter", "merged"):
            raise Invalid(f"kind is {self.kind!r}: use adapter or merged.", param="kind")
        if self.save_steps != "auto" and self.save_steps < 1:
            wrong = f'save_steps is {self.save_steps!r}: use "auto" or a whole number from 1.'
            raise Invalid(wrong, param="save_steps")
        self._check_shard()

    def _check_shard(self) -> None:
        if self.shard not in ("none", "fsdp"):
            raise Invalid(f"shard is {self.shard!r}: use none or fsdp.", param="shard")
        if self.shard == "none":
            return
        if self.hyperparameters.tune != "lora" or self.hyperparameters.dora:
            raise Invalid("shard fsdp divides the base of a LoRA: use tune lora without dora.", param="shard")
        if self.gpus * self.nodes == 1:
            raise Invalid("shard fsdp divides the base among several processes: use more gpus or nodes.", param="shard")

    def to_json(self) -> dict[str, Any]:
        """The request as config.json and jobs store it. Data in memory becomes None."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        values["data"] = _location(self.data)
        if not isinstance(self.validation, int | float):
            values["validation"] = _location(self.validation)
            values["data"] = values["data"] if values["validation"] else None
        return {name: _plain(value) for name, value in values.items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "TrainingRequest":
        """A stored request; absent keys take their defaults, unknown keys are ignored.

        Raises:
            Invalid: `data` or `base` is missing, or a value is not allowed.
        """
        for name in ("data", "base"):
            if not values.get(name):
                raise Invalid(f"A training job needs {name!r}.", param=name)
        known: dict[str, Any] = {item.name: values[item.name] for item in fields(cls) if item.name in values}
        known["hyperparameters"] = Hyperparameters.from_dict(known.get("hyperparameters") or {})
        known["columns"] = Columns(**known["columns"]) if known.get("columns") else None
        known["bot"] = BotProfile.model_validate(known["bot"]) if known.get("bot") else None
        known["trackers"] = tuple(known.get("trackers") or ())
        return cls(**known)


def _location(data: Data) -> str | None:
    """A path that is valid from any working directory; a hub id as it is; None for data in memory."""
    if not isinstance(data, str | Path):
        return None
    return str(Path(data).absolute()) if Path(data).exists() else str(data)


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value.absolute())
    if isinstance(value, tuple):
        return list(value)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return value.model_dump(mode="json") if isinstance(value, BotProfile) else value
