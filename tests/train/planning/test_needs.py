"""The memory formulae: activations counted again with torch's own hooks, and the parts in their proportions."""

from dataclasses import replace
from typing import Any

import pytest

from train.planning.machines import find_gpu
from train.planning.needs import Need, Shape, Step, kept_by_a_layer, largest_that_fits, need
from train.planning.spread import choose_spread

# Sizes of a model of 7 billion parameters, of Llama 2's shape
SEVEN = Shape(
    parameters=6_738_000_000, linear=6_476_000_000, adapter_per_rank=2_498_560, layers=32, width=4096,
    attention=4096, keys=4096, inner=11_008, vocabulary=32_000, context=4096,
)  # fmt: skip
ON_A_GPU = Step(rows=4, longest=1024, rank=16, bytes_each=2, checkpointing=True, device="cuda", masked=True)


def _kept(layers: int, adapter: bool, tokens: int) -> float:
    """Bytes that autograd keeps for a token, in a model of so many layers, attending row by row as training does."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from train.trainers.packing import PackedCollator, attend_by_row

    config = Qwen2Config(
        vocab_size=500, hidden_size=128, intermediate_size=384, num_hidden_layers=layers, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=True,
    )  # fmt: skip
    model: Any = Qwen2ForCausalLM(config)
    attend_by_row(model)
    if adapter:
        model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=8))
    model.train()
    known = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    held: dict[int, int] = {}
    alive = []

    def keep(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            held[storage.data_ptr()] = storage.nbytes()
        alive.append(tensor)  # so that no address is used twice
        return tensor

    row = list(range(tokens // 2))
    batch = PackedCollator()([{"input_ids": row, "labels": row}] * 2)
    del batch["labels"], batch["tokens"]
    body = model.model.model if adapter else model.model
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        body(**batch, use_cache=False)
    return sum(held.values()) / tokens


@pytest.mark.long
@pytest.mark.parametrize("tune", ["lora", "full"])
def test_a_layers_activations_match_autograd(tune: Any) -> None:
    tokens = 256
    counted = _kept(3, tune == "lora", tokens) - _kept(2, tune == "lora", tokens)
    shape = replace(SEVEN, width=128, attention=128, keys=64, inner=384, layers=3, vocabulary=500)
    step = Step(rows=2, longest=tokens // 2, rank=8, bytes_each=4, checkpointing=False, device="cpu")
    assert kept_by_a_layer(tune, shape, step) == pytest.approx(counted, rel=0.02)


def test_the_known_proportions_of_a_model_of_seven_billion() -> None:
    full, lora, qlora = (need(tune, SEVEN, ON_A_GPU) for tune in ("full", "lora", "qlora"))
    # ZeRO: 16 bytes a parameter (and autocast's 16-bit copies); LoRA: 2 for the base; QLoRA: about half a byte
    assert full.gradients + full.optimiser == 12 * SEVEN.parameters
    assert full.total > 16 * SEVEN.parameters
    assert lora.weights == pytest.approx(2 * SEVEN.parameters, rel=0.02)
    assert lora.trained == 16 * SEVEN.adapter_per_rank  # 40 million at rank 16
    assert qlora.weights == pytest.approx(0.516 * SEVEN.linear + 2 * (SEVEN.parameters - SEVEN.linear), rel=0.06)
    assert qlora.total < lora.total < full.total


def test_a_base_is_divided_only_where_a_copy_does_not_fit_a_card() -> None:
    large, small = find_gpu("a100-80gb").machine, replace(find_gpu("l4").machine, memory=16 * 2**30)
    copies = choose_spread("lora", SEVEN, ON_A_GPU, large, 8)
    assert (copies.shard, copies.fits) == ("none", True)
    divided = choose_spread("lora", SEVEN, ON_A_GPU, small, 8)
    assert (divided.shard, divided.fits) == ("fsdp", True)
    assert divided.divided is not None
    # Other processes hold seven eighths of the blocks, and two of the 32 blocks are gathered.
    assert divided.whole - divided.divided == pytest.approx(2 * SEVEN.linear * (7 / 8 - 2 / 32), rel=1e-6)
    assert "FSDP, not yet tested on GPUs" in divided.reason
    full = choose_spread("full", SEVEN, ON_A_GPU, large, 8)
    assert (full.shard, full.fits, full.divided) == ("none", False, None)
    assert "use --tune lora" in full.reason


def test_checkpointing_rows_and_lengths_change_activations_alone() -> None:
    plain = need("lora", SEVEN, replace(ON_A_GPU, checkpointing=False))
    saved = need("lora", SEVEN, ON_A_GPU)
    assert saved.activations < plain.activations / 5
    assert saved.weights == plain.weights
    assert need("lora", SEVEN, replace(ON_A_GPU, rows=1)).activations < saved.activations / 3


def test_packed_rows_need_no_memory_for_padding() -> None:
    step = replace(ON_A_GPU, packed=3_000)
    assert (ON_A_GPU.tokens, step.tokens, replace(step, rows=1).tokens) == (4_096, 3_000, 1_024)
    assert need("lora", SEVEN, step).activations < need("lora", SEVEN, ON_A_GPU).activations


def test_the_proof_counts_only_where_it_is_the_worst_moment() -> None:
    small = Need("lora", 1, 100, 1, 1, 10, 10, 1000, proof=500)
    assert small.total == 1000 + 100 + 500
    assert replace(small, proof=5).total == 1000 + 100 + 1 + 1 + 10 + 10


@pytest.mark.parametrize("tune", ["lora", "qlora", "full"])
def test_the_largest_model_that_fits_does_fit(tune: Any) -> None:
    room = 24e9
    biggest = largest_that_fits(tune, SEVEN, replace(ON_A_GPU, rows=1), room)
    assert 0 < biggest <= SEVEN.parameters
    if tune == "full":
        assert biggest < 2e9
