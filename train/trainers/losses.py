"""The loss over learnt tokens: a head that computes logits only for these, and the mean over rows."""

import types
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any

import torch

from train.trainers.fit_job import Measured
from train.trainers.frozen_head import FrozenHeadLoss
from train.trainers.packing import measuring_batches
from train.trainers.tokens import IGNORED, Row

_LOGITS_AT_ONCE = 1 << 22  # numbers in one chunk: 16 MB in float32
_FEWEST_ROWS = 128  # fewer would make slow matrix products


def measure(model: Any, rows: Sequence[Row], pad_token: int) -> Measured:
    """Loss and accuracy over learnt tokens, of a model with `add_learnt_head`; its mode is left as it was."""
    training = model.training
    model.eval()
    device = next(model.parameters()).device
    total, count, right = 0.0, 0, 0
    with torch.no_grad():
        for batch in measuring_batches(rows):
            width = max(len(row.input_ids) for row in batch)
            ids = torch.tensor([row.input_ids + [pad_token] * (width - len(row.input_ids)) for row in batch])
            labels = torch.tensor([row.labels + [IGNORED] * (width - len(row.labels)) for row in batch])
            mask = torch.tensor([[1] * len(row.input_ids) + [0] * (width - len(row.input_ids)) for row in batch])
            learnt = model(
                input_ids=ids.to(device), attention_mask=mask.to(device), labels=labels.to(device), learnt_only=True
            )
            total += learnt.loss_sum.item()
            count += int(learnt.count)
            right += int(learnt.right)
    model.train(training)
    return Measured(total / max(1, count), right / max(1, count))


@dataclass(frozen=True)
class Head:
    """What a model does to its logits after the matrix product: scaling, then a soft cap at ±`cap` (Gemma 2)."""

    scale: float = 1.0
    cap: float | None = None


@dataclass
class Learnt:
    """Over the learnt tokens of a batch: the sum of their losses in nats (with gradient), how many of them the model
    ranks first, and how many there are.
    """

    loss_sum: torch.Tensor
    right: torch.Tensor
    count: torch.Tensor


def add_learnt_head(model: Any) -> None:
    """Makes `model(…, labels=labels, learnt_only=True)` return `Learnt` instead of logits.

    The switch is in the model's own forward, so that it also works through peft and through the distributed wrapper.
    """
    plain = model.forward
    head = head_of(model.config.get_text_config())

    # The signature stays, because trainers read the columns of a model from it.
    @wraps(type(model).forward)
    def forward(self: Any, *args: Any, learnt_only: bool = False, labels: Any = None, **options: Any) -> Any:
        if not learnt_only:
            return plain(*args, **options) if labels is None else plain(*args, labels=labels, **options)
        # Looked up on each call, because peft inserts its layers later.
        hidden = self.base_model(*args, **options | {"use_cache": False}).last_hidden_state
        last = self.get_output_embeddings()
        return learnt_loss(hidden, labels, last.weight, last.bias, head)

    model.forward = types.MethodType(forward, model)


def head_of(config: Any) -> Head:
    """The scaling and capping of logits that a model's config describes."""
    scale = next(
        (
            float(value)
            for name in ("logit_scale", "output_multiplier", "lm_head_multiplier")
            if (value := getattr(config, name, None)) is not None
        ),
        None,
    )
    if scale is None and (scaling := getattr(config, "logits_scaling", None)) is not None:
        # Granite divides by it, HyperCLOVA X multiplies.
        scale = float(scaling) if config.model_type == "hyperclovax" else 1 / float(scaling)
    return Head(1.0 if scale is None else scale, getattr(config, "final_logit_softcapping", None))


def learnt_loss(
    hidden: torch.Tensor,
    labels: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    head: Head | None = None,
) -> Learnt:
    """The cross-entropy of the next tokens that are learnt.

    Args:
        hidden: last hidden states, (batch, length, width).
        labels: ids of learnt tokens, IGNORED elsewhere, (batch, length); the token at t is predicted at t − 1.
        weight: of the last layer, (vocabulary, width). bias: (vocabulary), if it has one.
        head: further operations on the logits.
    """
    learnt = labels[:, 1:] != IGNORED
    targets = labels[:, 1:][learnt]
    states = hidden[:, :-1][learnt]
    keep = torch.is_grad_enabled()
    head = head or Head()
    trained = keep and (weight.requires_grad or (bias is not None and bias.requires_grad))
    if states.device.type == "cpu" and not trained:
        transform = partial(_transform_logits, head=head)
        loss_sum, right = FrozenHeadLoss.apply(states, weight, bias, targets, transform, keep)
    else:
        loss_sum, right = _LearntLoss.apply(states, weight, bias, targets, head, keep)
    return Learnt(loss_sum, right, learnt.sum())


class _LearntLoss(torch.autograd.Function):
    """(sum of losses, correct predictions) over rows; forward computes the gradients, backward scales them."""

    @staticmethod
    def forward(
        ctx: Any,
        states: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
        head: Head,
        keep: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        kind = states.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else states.dtype
        of_states, of_weight, of_bias = (keep and needed for needed in ctx.needs_input_grad[:3])
        grad_states = torch.empty_like(states) if of_states else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if of_weight else None
        grad_bias = torch.zeros_like(bias, dtype=torch.float32) if bias is not None and of_bias else None
        matrix = weight.to(dtype)
        total = torch.zeros((), dtype=torch.float32, device=states.device)
        right = torch.zeros((), dtype=torch.long, device=states.device)
        rows = max(_FEWEST_ROWS, _LOGITS_AT_ONCE // weight.shape[0])
        for start in range(0, len(states), rows):
            part = slice(start, start + rows)
            some, wanted = states[part].to(dtype), targets[part].unsqueeze(1)
            logits = (some @ matrix.t()).float()
            if bias is not None:
                logits += bias
            slope = _transform_logits(logits, head)
            aim = logits.gather(1, wanted)
            top, first = logits.max(1, keepdim=True)
            shares = logits.sub_(top).exp_()
            mass = shares.sum(1, keepdim=True)
            total += (top + mass.log() - aim).sum()
            right += (first == wanted).sum()
            if not (of_states or of_weight or of_bias):
                continue
            gradient = shares.div_(mass)
            gradient.scatter_add_(1, wanted, torch.full_like(aim, -1.0))
            if slope is not None:
                gradient.mul_(slope)
            if grad_bias is not None:
                grad_bias += gradient.sum(0)
            if grad_weight is not None:
                grad_weight.addmm_(gradient.t(), some.float())
            if grad_states is not None:
                grad_states[part] = (gradient.to(dtype) @ matrix).to(states.dtype)
        ctx.gradients = (grad_states, grad_weight, grad_bias)
        ctx.dtypes = (weight.dtype, bias.dtype if bias is not None else None)
        ctx.mark_non_differentiable(right)
        return total, right

    @staticmethod
    def backward(ctx: Any, of_sum: torch.Tensor, of_right: Any) -> Any:  # type: ignore[override]  # torch declares it without types
        states, weight, bias = ctx.gradients
        ctx.gradients = None  # so that nothing of the batch outlives the step
        dtype, bias_dtype = ctx.dtypes
        return (
            None if states is None else states.mul_(of_sum),
            None if weight is None else weight.mul_(of_sum).to(dtype),
            None if bias is None else bias.mul_(of_sum).to(bias_dtype),
            None,
            None,
            None,
        )


def _transform_logits(logits: torch.Tensor, head: Head) -> torch.Tensor | float | None:
    """Scales and caps logits in place; returns the derivative, None if it is 1."""
    if head.scale != 1.0:
        logits.mul_(head.scale)
    if head.cap is None:
        return head.scale if head.scale != 1.0 else None
    logits.div_(head.cap).tanh_()
    slope = (1 - logits**2) * head.scale
    logits.mul_(head.cap)
    return slope
