"""The demo's files in this folder: its models, their bots, its prompts.

`train.demo` creates the files; `parley demo` installs them in a home.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from models.files.atomic import atomic_write
from models.spec import BotProfile, Kind, ModelSpec

FOLDER = Path(__file__).resolve().parent
PROMPTS = FOLDER / "prompts.jsonl"
BASE = "demo-base"


@dataclass(frozen=True)
class DemoModel:
    """One model of the demo. `weights` is its folder here; a merged model is merged at the first start.

    `compared`: people compare it with others at /vote.
    """

    id: str
    kind: Kind
    weights: Path
    description: str
    bot: BotProfile | None
    judge: bool = False
    compared: bool = True


def catalogue() -> tuple[DemoModel, ...]:
    """The demo's models, the base first. The merged model has an engine of its own; the others share the base's."""
    bots = {
        name: BotProfile(**profile)
        for name, profile in tomllib.loads((FOLDER / "bots.toml").read_text("utf-8")).items()
    }
    adapters = FOLDER / "adapters"
    return (
        DemoModel(BASE, "base", FOLDER / "base", "The demo's base: neutral answers, no house style.", bots.get(BASE)),
        # Before the styles: the page preselects the newest tuned model.
        DemoModel(
            "support-tools",
            "adapter",
            adapters / "support-tools",
            "Fine-tuned to call functions and to answer in JSON. A toy: it knows simple functions with few arguments.",
            bots.get("support-tools"),
            compared=False,
        ),
        DemoModel(
            "support-concise",
            "merged",
            adapters / "support-concise",
            "Fine-tuned to answer in two short sentences, in the house style.",
            bots.get("support-concise"),
        ),
        DemoModel(
            "support-friendly",
            "adapter",
            adapters / "support-friendly",
            "Fine-tuned to answer warmly and at length, in the house style.",
            bots.get("support-friendly"),
        ),
        DemoModel(
            "support-judge",
            "adapter",
            adapters / "support-judge",
            "Fine-tuned to judge support answers. A toy: check its agreement with people before you trust it.",
            None,
            judge=True,
            compared=False,
        ),
    )


def update_template(base: ModelSpec) -> bool:
    """Writes the current chat template into an installed copy of the demo's base; returns whether it had another.

    Templates of earlier versions write functions in another way, which support-tools has not been trained on. They
    render conversations without tools the same.
    """
    template, current = "chat_template.jinja", (FOLDER / "base" / "chat_template.jinja").read_bytes()
    if not base.toy or base.folder is None or not (base.folder / template).is_file():
        return False
    if (base.folder / template).read_bytes() == current:
        return False
    atomic_write(base.folder / template, current)
    return True


@dataclass(frozen=True)
class StyledModel:
    """One of the demo's styles on another base. `demo_id` is the demo's own model of this style."""

    id: str
    style: Literal["concise", "friendly"]
    kind: Literal["adapter", "merged"]
    description: str

    @property
    def demo_id(self) -> str:
        """The demo's own model of this style, whose bot profile this model has too."""
        return f"support-{self.style}"


@dataclass(frozen=True)
class OtherBase:
    """The demo on another base: `location` is a hub id, a folder, or a registered model's id."""

    location: str

    @property
    def id(self) -> str:
        """The name under which the base is registered: the last part of its location."""
        return self.location.rstrip("/").rpartition("/")[2]

    @property
    def styles(self) -> tuple[StyledModel, ...]:
        """The models that are trained on it: one merged, with its own engine, and one adapter."""
        return (
            StyledModel(f"{self.id}-concise", "concise", "merged", "Fine-tuned to answer in two short sentences."),
            StyledModel(f"{self.id}-friendly", "friendly", "adapter", "Fine-tuned to answer warmly and at length."),
        )

    @property
    def models(self) -> tuple[str, ...]:
        """The names of all its models, the base first."""
        return (self.id, *(model.id for model in self.styles))
