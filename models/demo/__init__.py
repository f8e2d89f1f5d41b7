"""The demo's files in this folder: its models, their bots, its prompts.

`train.demo` creates the files; `parley demo` installs them in a home.
"""

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from models.spec import BotProfile, Kind, ModelSpec

FOLDER = Path(__file__).resolve().parent
PROMPTS = FOLDER / "prompts.jsonl"
BASE = "demo-base"


@dataclass(frozen=True)
class DemoModel:
    """One model of the demo. `weights` is its folder here; a merged model is merged at the first start.

    A judge, and a model with `tools`, which calls functions, are not put to the vote.
    """

    id: str
    kind: Kind
    weights: Path
    description: str
    bot: BotProfile | None
    judge: bool = False
    tools: bool = False

    @property
    def voted(self) -> bool:
        """Whether people vote on its answers."""
        return not (self.judge or self.tools)


def catalogue() -> tuple[DemoModel, ...]:
    """The demo's models, the base first. The merged model has an engine of its own; the others share the base's.

    The page preselects the newest fine-tune, so the model with tools is not registered last.
    """
    bots = {
        name: BotProfile(**profile)
        for name, profile in tomllib.loads((FOLDER / "bots.toml").read_text("utf-8")).items()
    }
    adapters = FOLDER / "adapters"
    return (
        DemoModel(BASE, "base", FOLDER / "base", "The demo's base: neutral answers, no house style.", bots.get(BASE)),
        DemoModel(
            "support-tools",
            "adapter",
            adapters / "support-tools",
            "Fine-tuned to call four functions: trackOrder, cancelOrder, checkRefund and openingHours.",
            None,
            tools=True,
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
        ),
    )


def fitting(specs: Iterable[ModelSpec]) -> tuple[DemoModel, ...]:
    """The demo's models for a home with these models: without tools if its base is of a release before them."""
    template = "chat_template.jinja"
    path = next((spec.path for spec in specs if spec.id == BASE), None)
    if path is None or _text(Path(path) / template) == _text(FOLDER / "base" / template):
        return catalogue()
    return tuple(model for model in catalogue() if not model.tools)


def _text(path: Path) -> str | None:
    return path.read_text("utf-8") if path.is_file() else None


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
