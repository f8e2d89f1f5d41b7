"""Settings for common GPUs with a plan's estimates: the table in docs/recipes.md. None of them has been run.

python -m train.planning.recipes
"""

from dataclasses import dataclass
from typing import Any

from train.planning.machines import GPUS, Gpu
from train.planning.needs import Shape, Step, Tune, need
from train.planning.speeds import TokenWork, estimate_speed

MEAN_LENGTH, LONGEST, LEARNT = 500, 2_048, 0.5  # tokens of a conversation, and the share with loss
_SHARED = 0.9  # the speed of GPUs that share each batch, relative to separate GPUs
_CHECKPOINTED = 1_000_000_000  # parameters, as in `hyperparameters`


@dataclass(frozen=True)
class Model:
    """A hub id with its licence and the sizes in its config.json."""

    hub_id: str
    licence: str
    kind: str
    config: dict[str, Any]


def _qwen3(name: str, width: int, inner: int, layers: int, heads: int, *, tied: bool = False) -> Model:
    sizes = {
        "hidden_size": width, "intermediate_size": inner, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151_936, "tie_word_embeddings": tied,
    }  # fmt: skip
    return Model(f"Qwen/{name}", "Apache-2.0", "qwen3", sizes)


MODELS = {
    "4b": _qwen3("Qwen3-4B-Instruct-2507", 2_560, 9_728, 36, 32, tied=True),
    "8b": _qwen3("Qwen3-8B", 4_096, 12_288, 36, 32),
    "14b": _qwen3("Qwen3-14B", 5_120, 17_408, 40, 40),
    "32b": _qwen3("Qwen3-32B", 5_120, 25_600, 64, 64),
}


@dataclass(frozen=True)
class Recipe:
    """One setting: `rows` is the micro-batch on each GPU."""

    gpu: str
    gpus: int
    model: str
    tune: Tune
    rows: int
    rank: int = 16


RECIPES = (
    Recipe("rtx-4090", 1, "4b", "lora", 2),
    Recipe("rtx-4090", 1, "8b", "qlora", 2),
    Recipe("rtx-4090", 1, "14b", "qlora", 1),
    Recipe("a100-80gb", 1, "8b", "lora", 8),
    Recipe("a100-80gb", 1, "14b", "lora", 8),
    Recipe("a100-80gb", 1, "32b", "qlora", 4),
    Recipe("h100-80gb", 8, "8b", "lora", 8, 32),
    Recipe("h100-80gb", 8, "14b", "lora", 8, 32),
    Recipe("h100-80gb", 8, "32b", "qlora", 4, 32),
)


@dataclass(frozen=True)
class Expected:
    """A plan's estimates: memory in bytes and as a share of one GPU's, and tokens per second of all GPUs together."""

    memory_share: float
    memory: int
    tokens_per_s: float


def expect(recipe: Recipe) -> Expected:
    """The plan's estimates for a recipe."""
    gpu: Gpu = GPUS[recipe.gpu]
    shape = model_shape(MODELS[recipe.model])
    checkpointing = shape.parameters > _CHECKPOINTED
    step = Step(recipe.rows, LONGEST, recipe.rank, 2, checkpointing, "cuda", masked=True)
    memory = need(recipe.tune, shape, step).total
    work = TokenWork(shape, MEAN_LENGTH, LEARNT, checkpointing)
    speed = estimate_speed(recipe.tune, work, step, gpu).tokens_per_s
    factor = recipe.gpus * (_SHARED if recipe.gpus > 1 else 1.0)
    return Expected(memory / gpu.memory, memory, speed * factor)


def model_shape(model: Model) -> Shape:
    """A model's sizes, from its config alone."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from train.planning.shapes import shape_of
    from train.trainers.runtime import quiet

    with quiet(), torch.device("meta"):
        return shape_of(AutoModelForCausalLM.from_config(AutoConfig.for_model(model.kind, **model.config)))


def table() -> str:
    """The recipes as a Markdown table."""
    lines = ["| GPUs | base | `--tune` | memory of each | tokens/s |", "|---|---|---|---|---|"]
    for recipe in RECIPES:
        expected, gpu = expect(recipe), GPUS[recipe.gpu]
        cards = gpu.name if recipe.gpus == 1 else f"{recipe.gpus} × {gpu.name}"
        memory = f"{expected.memory / 2**30:.0f} GiB ({expected.memory_share:.0%})"
        speed = float(f"{expected.tokens_per_s:.2g}")
        lines.append(f"| {cards} | {MODELS[recipe.model].hub_id} | {recipe.tune} | {memory} | {speed:,.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
