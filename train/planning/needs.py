"""The memory that a training run needs, calculated part by part, without loading the model or importing torch.

The parts and their sources:

* weights, gradients, optimiser: Rajbhandari et al., "ZeRO", 2020 (arXiv:1910.02054), section 3. Full tuning holds
  weights in float32 (4 bytes), a gradient (4) and Adam's two moments (8) each; LoRA (arXiv:2106.09685) holds the base
  in its precision, and the 16 bytes only for the adapter; QLoRA (arXiv:2305.14314) holds linear weights in NF4 with
  double quantisation, 4.127 bits each.
* activations: what autograd keeps for the backward pass, counted in this stack with torch's saved-tensor hooks
  (transformers 5.19, peft 0.21, attention by SDPA), the way of Korthikanti et al., 2022 (arXiv:2205.05198).
  `tests/train/planning/test_needs.py` counts them again.
* logits: on a CPU `trainers.frozen_head` works on tiles of a million logits, and for a trained last layer
  `trainers.losses` on chunks of 4 million; on a GPU TRL does on tiles of 4,096 tokens × 32,768 words
  (trl/kernels/chunked_logprob.py). The packing test (`trainers.packing`) projects 48 tokens × the whole vocabulary
  before the first step, when nothing else is in memory yet.
"""

from dataclasses import dataclass
from typing import Literal

Tune = Literal["lora", "qlora", "full"]

_NF4 = 4.127 / 8  # bytes: 4 bits, and a double-quantised scale for each 64 weights
_CHUNK, _FEWEST_ROWS, _CHUNK_COPIES = 1 << 22, 128, 3  # logits at once, rows at least, copies in float32
_TILE = 1 << 20  # logits at once of a last layer that is not trained
_TILE_TOKENS, _TILE_WORDS = 4_096, 32_768
_PROOF_PLACES, _PROOF_COPIES = 3 * 16, 4
_LIBRARIES = 700 << 20  # this process with torch, transformers, peft and TRL imported, as measured
_CUDA_CONTEXT = 500 << 20
# Bytes that one layer of a Llama or Qwen model keeps for one token, for each unit of: width, attention (all heads),
# keys (or values, all groups), inner size, and the rank of each adapter.
_KEPT = {
    ("adapter", 4): (16, 12, 8, 16, 4),
    ("adapter", 2): (20, 6, 4, 8, 2),
    ("full", 4): (24, 12, 8, 16, 0),
    ("full", 2): (26, 6, 4, 8, 0),
}
# On a CPU the C library's heap does not return small holes, so the process grows beyond what autograd keeps. These
# factors were measured with models of 11 and 79 million parameters (1.05 with every block mapped separately), the
# adapter's with one of 268 million (1.6 to 1.9: more for small batches).
_HEAP = {"adapter": 1.7, "full": 1.3, "checkpointed": 3.2}
_GATHERED_BLOCKS = 2
_ADAPTED = 7  # linear layers of a block that carry an adapter: q, k, v, o, gate, up, down


@dataclass(frozen=True)
class Shape:
    """The sizes of a decoder. `parameters` counts tied ones once; `linear` those in the linear layers of its blocks,
    which QLoRA quantises; `adapter_per_rank` those of a LoRA on all linear layers for each rank. `attention` is the
    width of all heads together, `keys` of all groups of keys.
    """

    parameters: int
    linear: int
    adapter_per_rank: int
    layers: int
    width: int
    attention: int
    keys: int
    inner: int
    vocabulary: int
    context: int


@dataclass(frozen=True)
class Step:
    """What memory depends on besides the model: the rows of a micro-batch, the longest row, the precision, …

    `bytes_each` is 4 for float32 and 2 for bf16 or fp16. `device` is "cpu" or "cuda". `masked`: rows are padded and
    masked, which repeats the keys for every head and keeps the mask. `packed`: the most tokens in a micro-batch without
    padding; None if rows are padded. `compared`: DPO or KTO, which compare the model with its base: full tuning holds a
    second copy of the weights, and the logits are TRL's. `shards`: the processes among which FSDP divides the blocks of
    a LoRA's base; 1 if each holds all of it.
    """

    rows: int
    longest: int
    rank: int
    bytes_each: int
    checkpointing: bool
    device: str
    masked: bool = False
    packed: int | None = None
    compared: bool = False
    shards: int = 1

    @property
    def tokens(self) -> int:
        """The most tokens in a micro-batch, including padding."""
        padded = self.rows * self.longest
        return padded if self.packed is None else min(padded, self.packed)


@dataclass(frozen=True)
class Need:
    """The memory of one tuning method in bytes, part by part; `trained` is the number of trained parameters.

    `proof` is what the packing test needs before the first step, besides the weights and the program.
    """

    tune: Tune
    trained: int
    weights: int
    gradients: int
    optimiser: int
    activations: int
    logits: int
    program: int
    proof: int

    @property
    def total(self) -> int:
        """The peak: usually the start of a backward pass, when all parts but the proof are in memory."""
        step = self.gradients + self.optimiser + self.activations + self.logits
        return self.program + self.weights + max(step, self.proof)


def need(tune: Tune, shape: Shape, step: Step) -> Need:
    """The memory of one tuning method.

    Args:
        tune: "lora", "qlora" or "full".
        shape: the model's sizes.
        step: the size of one step.
    """
    trained = shape.parameters if tune == "full" else step.rank * shape.adapter_per_rank
    return Need(
        tune=tune,
        trained=trained,
        weights=_weights(tune, shape, step) + (0 if tune == "full" else 4 * trained),
        gradients=4 * trained,
        optimiser=8 * trained,
        activations=_activations(tune, shape, step),
        logits=_logits(tune, shape, step),
        program=_CUDA_CONTEXT if step.device == "cuda" else _LIBRARIES,
        proof=0
        if step.masked or step.compared
        else min(_PROOF_PLACES, 3 * step.longest) * shape.vocabulary * 4 * _PROOF_COPIES,
    )


def _weights(tune: Tune, shape: Shape, step: Step) -> int:
    if tune == "full":
        # Autocast keeps a 16-bit copy of each linear weight until its step is over.
        copies = 2 if step.compared else 1
        return copies * 4 * shape.parameters + (2 * shape.linear if step.bytes_each == 2 else 0)
    if tune == "qlora":
        return round(_NF4 * shape.linear + step.bytes_each * (shape.parameters - shape.linear))
    if step.shards > 1:
        # Two blocks are gathered at once: the one that runs, and the next.
        gathered = _GATHERED_BLOCKS * shape.linear / shape.layers
        return round(step.bytes_each * (shape.parameters - shape.linear + shape.linear / step.shards + gathered))
    return step.bytes_each * shape.parameters


def _activations(tune: Tune, shape: Shape, step: Step) -> int:
    layer = kept_by_a_layer(tune, shape, step)
    # In the backward pass the gradients of one layer are in memory besides what was kept.
    passing = step.bytes_each * 2 * (shape.width + shape.inner)
    kind = "checkpointed" if step.checkpointing else "full" if tune == "full" else "adapter"
    heap = _HEAP[kind] if step.device == "cpu" else 1.0
    kept = shape.layers * 4 * shape.width + layer if step.checkpointing else shape.layers * layer
    return round(heap * step.tokens * (kept + passing))


def kept_by_a_layer(tune: Tune, shape: Shape, step: Step) -> int:
    """Bytes that one layer keeps for one token until the backward pass."""
    width, attention, keys, inner, rank = _KEPT["full" if tune == "full" else "adapter", step.bytes_each]
    kept = width * shape.width + attention * shape.attention + inner * shape.inner
    kept += keys * (shape.attention if step.masked else shape.keys) + rank * _ADAPTED * step.rank
    return kept + (step.bytes_each * step.longest if step.masked else 0)


def _logits(tune: Tune, shape: Shape, step: Step) -> int:
    if step.device == "cpu" and tune != "full" and not step.compared:
        chunk = _TILE * 4 * _CHUNK_COPIES
    elif step.device == "cpu" and not step.compared:
        rows = max(_FEWEST_ROWS, _CHUNK // shape.vocabulary)
        chunk = min(rows, step.tokens) * shape.vocabulary * 4 * _CHUNK_COPIES
    else:
        chunk = min(step.tokens, _TILE_TOKENS) * min(shape.vocabulary, _TILE_WORDS) * step.bytes_each
    # The gradient of the last hidden states and, if the last layer is trained, its own gradient.
    return chunk + 4 * step.tokens * shape.width + (4 * shape.vocabulary * shape.width if tune == "full" else 0)


def largest_that_fits(tune: Tune, shape: Shape, step: Step, room: float) -> int:
    """The approximate number of parameters of the largest model with the same proportions that fits, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(24):
        middle = (low + high) / 2
        low, high = (middle, high) if need(tune, _scaled(shape, middle), step).total <= room else (low, middle)
    return _scaled(shape, low).parameters


def _scaled(shape: Shape, share: float) -> Shape:
    """The same model with widths × share: matrices shrink with its square, embeddings and adapters with share."""
    words = shape.parameters - shape.linear
    return Shape(
        parameters=round(shape.linear * share**2 + words * share),
        linear=round(shape.linear * share**2),
        adapter_per_rank=round(shape.adapter_per_rank * share),
        layers=shape.layers,
        width=round(shape.width * share),
        attention=round(shape.attention * share),
        keys=round(shape.keys * share),
        inner=round(shape.inner * share),
        vocabulary=shape.vocabulary,
        context=shape.context,
    )
