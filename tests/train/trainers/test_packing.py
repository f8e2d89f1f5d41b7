"""train/trainers/packing.py: packed rows give the logits of single rows, and a model that leaks is detected."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.train.conftest import style_rows
from train.data.checks import check
from train.trainers.losses import add_learnt_head
from train.trainers.packing import LEAK_LIMIT, PackedCollator, PaddedCollator, attend_by_row, leak_limit, strays
from train.trainers.tokens import IGNORED, Row, tokenise

pytestmark = pytest.mark.training


@pytest.fixture
def model(tiny_base: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(str(tiny_base), dtype=torch.float32)


@pytest.fixture
def rows(tokenizer: Any) -> tuple[Row, ...]:
    return tokenise(check(style_rows(12), provider="local").examples, tokenizer, 2_048).rows


def columns(rows: tuple[Row, ...]) -> list[dict[str, list[int]]]:
    return [{"input_ids": row.input_ids, "labels": row.labels} for row in rows]


def test_each_rows_logits_are_those_it_has_alone(model: Any, rows: tuple[Row, ...]) -> None:
    with torch.no_grad():
        alone = [model(input_ids=torch.tensor([row.input_ids])).logits[0] for row in rows]
        attend_by_row(model)
        batch = PackedCollator()(columns(rows))
        del batch["labels"], batch["tokens"]
        packed = model(**batch).logits[0].split([len(row.input_ids) for row in rows])
        padded = model(input_ids=PaddedCollator(0)(columns(rows))["input_ids"]).logits
    for place, (single, other) in enumerate(zip(alone, packed, strict=True)):
        assert (single - other).abs().max() <= 1e-5 * single.abs().max()
        assert (single - padded[place, : len(single)]).abs().max() <= 1e-5 * single.abs().max()


def test_another_rows_text_changes_nothing(model: Any, rows: tuple[Row, ...]) -> None:
    """Bit for bit: the second row's logits under two different first rows of one length."""
    attend_by_row(model)
    first = rows[0]
    other = Row(0, [(token + 7) % 200 for token in first.input_ids], first.labels)
    tails = []
    for before in (first, other):
        batch = PackedCollator()(columns((before, rows[1])))
        del batch["labels"], batch["tokens"]
        with torch.no_grad():
            tails.append(model(**batch).logits[0, len(first.input_ids) :])
    assert torch.equal(*tails)


def test_packed_and_padded_batches_have_one_loss_and_one_gradient(model: Any, rows: tuple[Row, ...]) -> None:
    add_learnt_head(model)
    attend_by_row(model)
    results = []
    for collate in (PackedCollator(), PaddedCollator(0)):
        batch = collate(columns(rows))
        assert batch.pop("tokens") == sum(len(row.input_ids) for row in rows)
        learnt = model(**batch, learnt_only=True)
        model.zero_grad()
        (learnt.loss_sum / learnt.count).backward()
        results.append(
            (learnt.loss_sum / learnt.count, int(learnt.count), model.model.embed_tokens.weight.grad.clone())
        )
    assert results[0][1] == results[1][1] == sum(row.learnt for row in rows)
    assert torch.allclose(results[0][0], results[1][0], atol=1e-5)
    assert torch.allclose(results[0][2], results[1][2], atol=1e-5)


def test_a_rows_first_token_is_not_learnt_from_the_row_before() -> None:
    batch = PackedCollator()([{"input_ids": [5, 6], "labels": [5, 6]}, {"input_ids": [7, 8], "labels": [7, 8]}])
    assert batch["labels"].tolist() == [[IGNORED, 6, IGNORED, 8]]
    assert batch["position_ids"].tolist() == [[0, 1, 0, 1]]
    assert batch["cu_seq_lens_q"].tolist() == [0, 2, 4]


def test_the_proof_passes_this_model_and_leaves_it_as_it_was(model: Any, rows: tuple[Row, ...]) -> None:
    before = model.config._attn_implementation
    assert strays(model, rows) <= LEAK_LIMIT == leak_limit(model)
    assert model.config._attn_implementation == before
    assert model.training is False


def test_a_model_whose_rows_would_leak_is_detected(model: Any, rows: tuple[Row, ...]) -> None:
    """A layer that reads the previous token, like the short convolutions of some models."""
    layer = model.model.layers[0].mlp
    plain = layer.forward
    layer.forward = lambda states: plain(states) + 0.1 * plain(states).roll(1, dims=1)
    assert strays(model, rows) > 100 * LEAK_LIMIT


def test_a_sliding_window_is_kept(tiny_base: Path, rows: tuple[Row, ...]) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(str(tiny_base), use_sliding_window=True, sliding_window=16, max_window_layers=0)
    config.layer_types = ["sliding_attention"] * config.num_hidden_layers
    model = AutoModelForCausalLM.from_pretrained(str(tiny_base), config=config, dtype=torch.float32)
    assert strays(model, rows) <= LEAK_LIMIT
