"""The options of `parley rescue ft:…`, and their translation into a request."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from models.terminal import parse_number

if TYPE_CHECKING:
    from train.clouds.rescue_plan import RescueRequest

_PANEL = "One fine-tune"


def _option(text: str, *flags: str, **more: Any) -> Any:
    return typer.Option(*flags, help=text, rich_help_panel=_PANEL, **more)


@dataclass(frozen=True)
class RescueOptions:
    """The options. Numbers are text where they may be "auto"."""

    base: Annotated[
        str | None, _option("The base to train from: a model of `parley models list`, a folder, or a hub id.")
    ] = None
    name: Annotated[str | None, _option("The name of the new model. Default: <suffix>-rescued.")] = None
    data: Annotated[Path | None, _option("The training file on this disk, if OpenAI has deleted it.")] = None
    held_out: Annotated[float, _option("Share held out for the comparison, if OpenAI has no validation file.")] = 0.15
    epochs: Annotated[str, _option("Passes over the data, or auto.")] = "auto"
    rank: Annotated[str, _option("LoRA rank, or auto.")] = "auto"
    threads: Annotated[int | None, _option("CPU threads. Default: half of the cores.", min=1)] = None
    record_cost: Annotated[
        float | None, _option("First record the old model's answers, for at most this many US dollars.", min=0)
    ] = None
    record_training: Annotated[
        bool, _option("Record its answers to the training questions too.", "--record-training")
    ] = False

    def request(self, model: str) -> "RescueRequest":
        """The rescue of a fine-tune. Raises Invalid for a wrong number."""
        from train.clouds.rescue_plan import RescueRequest
        from train.hyperparameters import Hyperparameters

        hyperparameters = Hyperparameters(
            epochs=parse_number(self.epochs, "epochs", float), rank=parse_number(self.rank, "rank", int)
        )
        return RescueRequest(
            model, base=self.base, name=self.name, data=self.data, held_out=self.held_out,
            hyperparameters=hyperparameters, threads=self.threads,
        )  # fmt: skip
