"""train/trainers/losses.py: a chunked loss over learnt tokens alone is the plain loss, and so is its gradient."""

from typing import Any

import pytest
import torch

import train.trainers.frozen_head
import train.trainers.losses
from train.trainers.losses import Head, add_learnt_head, head_of, learnt_loss
from train.trainers.tokens import IGNORED

pytestmark = pytest.mark.training


def plain(hidden: Any, labels: Any, weight: Any, bias: Any, head: Head) -> tuple[Any, Any]:
    """The textbook computation: all logits at once."""
    logits = hidden @ weight.t() * 1.0
    if bias is not None:
        logits = logits + bias
    logits = logits * head.scale
    if head.cap:
        logits = head.cap * torch.tanh(logits / head.cap)
    loss = torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED, reduction="sum"
    )
    return loss, (logits[:, :-1].argmax(-1) == labels[:, 1:]).sum()


@pytest.mark.parametrize("head", [Head(), Head(0.25), Head(cap=2.0), Head(3.0, 1.5)])
@pytest.mark.parametrize("biased", [False, True])
def test_loss_and_gradients_are_those_of_a_plain_loss(
    head: Head, biased: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train.trainers.losses, "_LOGITS_AT_ONCE", 1)
    monkeypatch.setattr(train.trainers.losses, "_FEWEST_ROWS", 7)  # several chunks, the last one short
    chance = torch.Generator().manual_seed(0)
    values = [torch.randn(*shape, generator=chance) for shape in ((3, 20, 16), (50, 16), (50,))]
    labels = torch.randint(0, 50, (3, 20), generator=chance)
    labels[torch.rand(labels.shape, generator=chance) < 0.4] = IGNORED
    results = []
    for of in (plain, learnt_loss):
        hidden, weight, bias = (value.clone().requires_grad_() for value in values)
        given = (hidden, labels, weight, bias if biased else None, head)
        answer: Any = of(*given)
        loss, right = answer if of is plain else (answer.loss_sum, answer.right)
        (loss / 30).backward()
        results.append((loss, right, hidden.grad, weight.grad, bias.grad))
    assert float(results[0][1]) == float(results[1][1])
    for plain_value, other in zip(results[0], results[1], strict=True):
        if plain_value is not None:
            assert torch.allclose(plain_value.float(), other.float(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("head", [Head(), Head(0.25), Head(cap=2.0), Head(3.0, 1.5)])
@pytest.mark.parametrize("biased", [False, True])
def test_a_frozen_head_in_tiles_gives_the_plain_loss_and_gradient(
    head: Head, biased: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train.trainers.frozen_head, "_ROWS", 7)
    monkeypatch.setattr(train.trainers.frozen_head, "_WORDS", 16)  # the last tile is short
    chance = torch.Generator().manual_seed(0)
    hidden, weight, bias = (torch.randn(*shape, generator=chance) for shape in ((3, 20, 16), (50, 16), (50,)))
    weight *= 5  # so that the largest logit changes from tile to tile
    labels = torch.randint(0, 50, (3, 20), generator=chance)
    labels[torch.rand(labels.shape, generator=chance) < 0.4] = IGNORED
    results = []
    for of in (plain, learnt_loss):
        states = hidden.clone().requires_grad_()
        answer: Any = of(states, labels, weight, bias if biased else None, head)
        loss, right = answer if of is plain else (answer.loss_sum, answer.right)
        (loss / 30).backward()
        results.append((loss.detach(), states.grad, int(right)))
    assert results[0][2] == results[1][2]
    assert float(results[0][0]) == pytest.approx(float(results[1][0]), rel=1e-5)
    assert torch.allclose(results[0][1], results[1][1], rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        assert float(learnt_loss(hidden, labels, weight, bias if biased else None, head).loss_sum) == pytest.approx(
            float(results[0][0]), rel=1e-5
        )


def test_a_batch_without_a_learnt_token_is_a_zero_that_can_be_learnt_from() -> None:
    hidden = torch.randn(1, 4, 8, requires_grad=True)
    learnt = learnt_loss(hidden, torch.full((1, 4), IGNORED), torch.randn(9, 8))
    learnt.loss_sum.backward()
    assert (float(learnt.loss_sum.detach()), int(learnt.count)) == (0, 0)
    assert hidden.grad is not None
    assert not hidden.grad.any()


def test_a_model_answers_through_its_own_forward(tiny_base: Any) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(str(tiny_base), dtype=torch.float32)
    ids = torch.randint(0, 250, (2, 12), generator=torch.Generator().manual_seed(1))
    labels = ids.clone()
    labels[:, :5] = IGNORED
    before = model(input_ids=ids, labels=labels)
    add_learnt_head(model)
    assert torch.equal(model(input_ids=ids, labels=labels).loss, before.loss)
    learnt = model(input_ids=ids, labels=labels, learnt_only=True)
    assert torch.allclose(learnt.loss_sum / learnt.count, before.loss, rtol=1e-6, atol=1e-6)
    assert int(learnt.count) == 14


def test_logit_settings_of_a_config() -> None:
    from transformers import CohereConfig, Gemma2Config, GraniteConfig, Qwen2Config

    assert head_of(Qwen2Config()) == Head()
    assert head_of(Gemma2Config()) == Head(1.0, 30.0)
    assert head_of(CohereConfig(logit_scale=0.0625)) == Head(0.0625)
    assert head_of(GraniteConfig(logits_scaling=8.0)) == Head(0.125)
