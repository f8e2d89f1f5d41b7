"""A new model as a person describes it, on the command line or over HTTP, and the spec that this gives."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.errors import Invalid
from models.registry import check_upstream_address, parse_spec
from models.spec import ModelSpec
from models.system_messages import Folding
from models.weights import guess_kind, read_lora_rank


@dataclass(frozen=True)
class NewModel:
    """A model to register: either `path`, a folder or hub id, or `upstream`, an OpenAI-compatible address.

    `engine`: fields of `models.spec.EngineOptions`. `fold_system`: make system messages that the chat template has no
    place for part of a user turn.
    """

    name: str
    path: str | None = None
    kind: str | None = None
    base: str | None = None
    upstream: str | None = None
    upstream_model: str | None = None
    credential: str | None = None
    fallbacks: tuple[str, ...] = ()
    usd_per_million_input: float | None = None
    usd_per_million_output: float | None = None
    engine: Mapping[str, Any] = field(default_factory=dict)
    description: str = ""
    pin: bool = False
    fold_system: bool = False

    def spec(self) -> ModelSpec:
        """The spec to register.

        Raises:
            Invalid: the description contradicts itself, or a value is wrong.
        """
        path, upstream = self.path, self.upstream
        if path and upstream:
            raise Invalid("A model has weights or an upstream, not both: give a path or an upstream.")
        if not path and not upstream:
            raise Invalid(
                "Say where the model is: a path (a folder or hub id), or an upstream (an address).", param="path"
            )
        if upstream:
            check_upstream_address(upstream)
        hosted = {
            "model": self.upstream_model, "credential": self.credential,
            "usd_per_million_input": self.usd_per_million_input, "usd_per_million_output": self.usd_per_million_output,
        }  # fmt: skip
        if not upstream and any(value is not None for value in hosted.values()):
            raise Invalid("An upstream's model, credential and prices need the upstream's address.", param="upstream")
        if path and Path(path).expanduser().exists():
            path = str(Path(path).expanduser().absolute())
        spec = parse_spec(
            id=self.name,
            kind=self.kind or ("hosted" if upstream else guess_kind(path or "", self.base)),
            path=path,
            base=self.base,
            upstream=hosted | {"base_url": upstream, "model": self.upstream_model or self.name} if upstream else None,
            fallbacks=self.fallbacks,
            lora_rank=read_lora_rank(path) if path else None,
            engine=dict(self.engine),
            description=self.description,
            fold_system=_folding(path, self.engine) if self.fold_system else "none",
        )
        if spec.kind in ("base", "merged"):
            return spec
        if given := list(spec.engine.model_dump(exclude_defaults=True)):
            where = f"give {given[0]} to its base" if spec.kind == "adapter" else f"leave {given[0]} out"
            raise Invalid(f"A model of kind {spec.kind} does not have its own engine: {where}.", param="engine")
        if self.pin:
            raise Invalid(
                f"A model of kind {spec.kind} does not have its own engine, so it cannot be pinned.", param="pin"
            )
        return spec


def _folding(path: str | None, engine: Mapping[str, Any]) -> Folding:
    """Which system messages a model's template has no place for: all of them, if that cannot be known."""
    from models.chat_templates.system_role import has_system_role
    from models.chat_templates.tokenizer_files import read_folder_template, read_named_tokens

    folder = Path(path or "")
    template = engine.get("chat_template") or (read_folder_template(folder) if path else None)
    tokens = {"bos_token": "<s>", "eos_token": "</s>"} | read_named_tokens(folder)  # a hub id has no files yet
    return "later" if template and has_system_role(template, tokens) else "all"
