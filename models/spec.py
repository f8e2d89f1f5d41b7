"""ModelSpec: what a model is, where its weights or upstream are, and how its engine runs.

A spec is immutable. What changes during a model's life (state, aliases, pins) belongs to the registry.
"""

import re
from datetime import date, datetime
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from models.chat.system_messages import Folding
from models.clock import utcnow
from models.settings.secret_names import is_secret_name

Kind = Literal["base", "merged", "adapter", "hosted"]
State = Literal["candidate", "listed", "retired"]

# What clients send as `model`: a hub id, a fine-tune's `ft:gpt-4o-mini:team:suffix:id`, or a plain name.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,254}")
_RECORDED = re.compile(r".+@recorded(:[^@:]*)?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
MAX_REPLICAS = 64
SCHEDULING_POLICY = "--scheduling-policy"  # of vLLM
# A row's name has 255 characters, and a replica's is the model's id with its number.
LONGEST_REPLICATED_ID = 250
NAME_RULE = "a model's name starts with a letter or digit and has letters, digits and . _ : / @ + - (255 at most)"


def is_valid_name(name: str) -> bool:
    """Whether a name is allowed for ids and aliases, which appear in URLs, file names and logs."""
    return bool(_NAME.fullmatch(name)) and ".." not in name and "//" not in name


def is_recorded_name(name: str) -> bool:
    """Whether a name means a model's recorded answers (`MODEL@recorded`): no model that is served may have it."""
    return bool(_RECORDED.fullmatch(name))


class _FrozenModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EngineOptions(_FrozenModel):
    """How a model's vLLM engine runs. An adapter runs on its base's engine, with the base's options."""

    dtype: str = "auto"
    max_model_len: int | None = Field(default=None, gt=0, description="Context length in tokens.")
    tensor_parallel_size: int = Field(default=1, ge=1, description="GPUs that share each layer.")
    pipeline_parallel_size: int = Field(default=1, ge=1, description="Groups of GPUs that share the layers.")
    quantization: str | None = Field(
        default=None, pattern=r"^[a-z0-9][a-z0-9_-]*$", description="vLLM's quantization; None: as the weights say."
    )
    gpu_memory_share: float | None = Field(
        default=None, gt=0, le=1, description="Share of a GPU's memory; None: planned."
    )
    max_lora_rank: int = Field(default=64, ge=1, description="The highest rank of its LoRA adapters.")
    chat_template: str | None = Field(
        default=None, description="The text of the chat template; None: the one in its files."
    )
    trust_remote_code: bool = Field(default=False, description="Run code that comes with the weights.")
    tool_call_parser: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9][a-z0-9_.-]*$",
        description='vLLM\'s tool call parser; None: chosen by model family, "none": no tools.',
    )
    reasoning_parser: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9][a-z0-9_.-]*$",
        description='vLLM\'s reasoning parser; None: chosen by model family, "none": no reasoning.',
    )
    sleep_after_s: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="Seconds without a request until the engine sleeps; None: the setting.",
    )
    replicas: int = Field(
        default=1, ge=1, le=MAX_REPLICAS, description="Engines that serve it; with max_replicas, the minimum."
    )
    max_replicas: int | None = Field(
        default=None, ge=1, le=MAX_REPLICAS, description="Engines under load, at most; None: always `replicas`."
    )
    target_running: int = Field(
        default=8, ge=1, description="Requests that each replica should run at once before another one starts."
    )
    extra_args: tuple[str, ...] = Field(default=(), description="Additional arguments for vLLM's server.")

    @property
    def gpus(self) -> int:
        """The number of GPUs that one engine needs."""
        return self.tensor_parallel_size * self.pipeline_parallel_size

    @property
    def takes_priorities(self) -> bool:
        """Whether the engine accepts a priority with a request: unless the operator has set a scheduling policy."""
        names = (argument.split("=", 1)[0].replace("_", "-") for argument in self.extra_args)
        return SCHEDULING_POLICY not in names

    @property
    def most_replicas(self) -> int:
        """The largest number of engines that may serve it."""
        return self.max_replicas or self.replicas

    @model_validator(mode="after")
    def _check_replicas(self) -> "EngineOptions":
        if self.most_replicas < self.replicas:
            raise ValueError(f"max_replicas ({self.max_replicas}) must not be less than replicas ({self.replicas})")
        return self


class Upstream(_FrozenModel):
    """Where a hosted model is: an OpenAI-compatible address, its name there, and the variable with the key."""

    base_url: str
    model: str = Field(min_length=1)
    credential: str | None = Field(
        default=None,
        description="The NAME of the environment variable with the key, never the key itself.",
    )
    usd_per_million_input: float | None = Field(
        default=None, ge=0, allow_inf_nan=False, description="US dollars per million input tokens; None: unknown."
    )
    usd_per_million_output: float | None = Field(
        default=None, ge=0, allow_inf_nan=False, description="US dollars per million output tokens; None: unknown."
    )

    @field_validator("base_url")
    @classmethod
    def _check_address(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError("an address starts with https:// or http://, such as https://api.openai.com/v1")
        return value

    @property
    def shown_address(self) -> str:
        """The address without a user name and password, which specs of earlier versions may have."""
        parts = urlsplit(self.base_url)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))

    @field_validator("credential")
    @classmethod
    def _check_variable_name(cls, value: str | None) -> str | None:
        if value is not None and not _VARIABLE.fullmatch(value):
            raise ValueError(
                "name the environment variable that holds the key, such as OPENAI_API_KEY; never the key itself"
            )
        if value is not None and not is_secret_name(value):
            raise ValueError("the variable's name must contain KEY, TOKEN or SECRET, so that it is kept from engines")
        return value


class BotProfile(_FrozenModel):
    """How a model introduces itself at /bot/<model>."""

    title: str
    greeting: str
    system_prompt: str = ""
    examples: tuple[str, ...] = ()
    logo: str = Field(default="", description="The id of a stored image; empty: Parley's mark.")


class ServedParity(_FrozenModel):
    """Greedy answers through the model's engine, compared with the float32 reference.

    `agreement` is the share of served tokens that the reference would also choose after the same prefix.
    """

    asked: int = Field(ge=0, description="Questions sent to the engine.")
    same_text: int = Field(ge=0, description="Answers identical to the reference's.")
    tokens: int = Field(ge=0, description="Tokens in the served answers.")
    agreement: float = Field(ge=0, le=1)


class Parity(_FrozenModel):
    """The published weights compared with float32 base + adapter.

    `difference` and `limit` are of logits in float32 (None for an adapter, which is served unmerged). `agreement` is
    the share of positions with the same most likely token, and `kl` the mean divergence in nats per token; both are
    measured in `dtype`, teacher-forced on the probes' answers.
    """

    checked: datetime
    probes: int = Field(ge=0)
    source: str = Field(description="Where the probes are from.")
    tokens: int = Field(ge=0, description="Compared positions.")
    difference: float | None = None
    limit: float | None = None
    same_greedy: str = Field(default="", description="Identical greedy answers in float32, as '16 of 16'.")
    dtype: str
    agreement: float = Field(ge=0, le=1)
    kl: float
    served: ServedParity | None = None
    not_served: str = Field(default="", description="Why it was not measured through the engine.")
    refused: str = Field(default="", description="Why it is not listed; empty if it passed.")

    @property
    def summary(self) -> str:
        """A short form for a table."""
        agreement = f"{self.agreement:.1%}" + (f", vLLM {self.served.agreement:.1%}" if self.served else "")
        return f"refused: {agreement}" if self.refused else agreement


class ModelSpec(_FrozenModel):
    """One immutable version of a model.

    Kinds: `base` (a hub id or local folder, with an engine of its own), `merged` (a LoRA adapter merged into its base,
    with an engine of its own), `adapter` (a LoRA folder, served by its base's engine), `hosted` (an upstream's model).
    """

    id: str = Field(description="What clients send as `model`.")
    kind: Kind
    path: str | None = Field(default=None, description="An absolute folder or a hub id; None for hosted.")
    upstream: Upstream | None = None
    fallbacks: tuple[str, ...] = Field(
        default=(), description="Ids tried in order while it is down or starting, before the first byte."
    )
    base: str | None = Field(default=None, description="Id of the model it is loaded on or merged into.")
    parent: str | None = Field(default=None, description="Id of the model it was trained from.")
    job: str | None = Field(default=None, description="The training job or run that created it.")
    created: datetime = Field(default_factory=utcnow)
    shutdown_date: date | None = Field(default=None, description="When its provider shuts it down.")
    state: State = "listed"
    engine: EngineOptions = EngineOptions()
    lora_rank: int | None = Field(default=None, ge=1)
    bot: BotProfile | None = None
    description: str = ""
    judge: bool = Field(default=False, description="Trained to judge answers.")
    toy: bool = Field(default=False, description="Too small for reliable answers; the page says so.")
    fold_system: Folding = Field(
        default="none", description="Which system messages become part of a user turn, as in its training."
    )
    parity: Parity | None = Field(default=None, description="Its weights compared with float32 base + adapter.")

    @property
    def folder(self) -> Path | None:
        """The folder of its weights; None for a hub id or hosted model."""
        return Path(self.path) if self.path and Path(self.path).is_absolute() else None

    @field_validator("id")
    @classmethod
    def _check_id(cls, value: str) -> str:
        if not is_valid_name(value):
            raise ValueError(NAME_RULE)
        return value

    @model_validator(mode="after")
    def _check_kind(self) -> "ModelSpec":
        if self.kind == "hosted" and self.upstream is None:
            raise ValueError("a hosted model needs an upstream")
        if self.kind != "hosted" and not self.path:
            raise ValueError(f"a model of kind {self.kind} needs a path: a folder or a hub id")
        if self.kind == "adapter" and not self.base:
            raise ValueError("an adapter needs the id of its base")
        if self.engine.most_replicas > 1 and len(self.id) > LONGEST_REPLICATED_ID:
            raise ValueError(f"the name of a model with replicas has {LONGEST_REPLICATED_ID} characters at most")
        if self.id in self.fallbacks:
            raise ValueError("a model cannot be its own fallback")
        if len(set(self.fallbacks)) < len(self.fallbacks):
            raise ValueError("a fallback is listed twice")
        return self
