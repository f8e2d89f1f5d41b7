"""train/trainers/kto.py: the batches and the loss are TRL's, on our own token ids."""

from pathlib import Path
from typing import Any

import pytest

from tests.train.trainers.test_methods import labelled_rows
from train.data.checks import check
from train.hyperparameters import Facts, Hyperparameters, resolve
from train.run.checkpoints import CheckpointPlan
from train.run.failures import OutOfMemory
from train.trainers.bases import Base
from train.trainers.fit_job import FitJob
from train.trainers.kto import LabelMeter, _Collator, _columns, kto_trainer
from train.trainers.labelled import LabelledRow, tokenise_labelled
from train.trainers.launch import launch
from train.trainers.packing import measuring_batches
from train.trainers.runtime import Device
from train.trainers.tokenised_trainer import TrainerParts
from train.trainers.tokens import IGNORED

pytestmark = pytest.mark.training


@pytest.fixture
def model(tiny_base: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(str(tiny_base), dtype="float32")


def test_batches_and_loss_are_those_of_trl(tokenizer: Any, model: Any, tmp_path: Path) -> None:
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from trl import KTOConfig, KTOTrainer

    raw = labelled_rows(8)
    rows = tokenise_labelled(check(raw).examples, tokenizer, 1_000).rows
    assert [row.good for row in rows] == [row["label"] for row in raw]
    arguments = {
        "output_dir": str(tmp_path), "per_device_train_batch_size": 8, "report_to": "none", "use_cpu": True,
        "bf16": False, "gradient_checkpointing": False, "beta": 0.1,
    }  # fmt: skip
    theirs = KTOTrainer(
        model=str(model.name_or_path), args=KTOConfig(**arguments), train_dataset=Dataset.from_list(raw),
        processing_class=tokenizer,
    )  # fmt: skip
    expected = theirs.data_collator(list(theirs.train_dataset))
    adapter = LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=4, init_lora_weights=False)
    ours = kto_trainer(TrainerParts(model, tokenizer, tokenizer.pad_token_id, adapter), rows, arguments)
    batch = ours.data_collator(list(ours.train_dataset))
    for name in ("input_ids", "KL_input_ids", "attention_mask", "KL_attention_mask", "label"):
        assert torch.equal(batch[name], expected[name]), name
    # The newline after the end of a turn is not learnt here.
    assert torch.equal(batch["completion_mask"].sum(1) + 1, expected["completion_mask"].sum(1))
    assert (ours.desirable_weight, ours.undesirable_weight) == (1, 3)  # two bad answers weigh as much as six good ones
    measured = LabelMeter(ours, rows)()
    ours.model.eval()
    with torch.no_grad():
        loss = ours.compute_loss(ours.model, ours._prepare_inputs(batch)).item()
    assert measured.loss == pytest.approx(loss, abs=1e-5)
    assert measured.margin == pytest.approx(ours._metrics["eval"]["rewards/margins"][-1], abs=1e-4)
    assert measured.margin != pytest.approx(0, abs=1e-4)  # the adapter is not a new one


def some_rows(*lengths: int) -> tuple[LabelledRow, ...]:
    return tuple(
        LabelledRow(line, [line] * length, [IGNORED] * (length - 2) + [line] * 2, good=bool(line % 2))
        for line, length in enumerate(lengths, 1)
    )


def test_a_row_alone_is_compared_with_another_row_s_answer() -> None:
    long = some_rows(3_000, 2_500, 2_900)
    assert [len(batch) for batch in measuring_batches(long, 2, 2)] == [3]
    assert [len(batch) for batch in measuring_batches(long, 2)] == [1, 1, 1]
    first, second, third = (_columns(row) for row in some_rows(4, 5, 6))
    collate = _Collator(0, [first, second])
    for row, other in ((first, second), (third, first)):
        batch = collate([row])
        assert batch["KL_input_ids"].tolist() == [row["prompt_ids"] + other["completion_ids"]]
        assert batch["input_ids"].tolist() == [row["prompt_ids"] + row["completion_ids"]]


@pytest.mark.parametrize(("batch", "tried"), [(4, [4, 2]), (3, [3, 3])])
def test_a_micro_batch_that_cannot_be_smaller_ends_a_run_without_memory(
    batch: int, tried: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from train.trainers import fit

    sizes: list[int] = []

    def run_out(job: FitJob, *_: Any) -> None:
        sizes.append(fit._trainer_arguments(job)["per_device_train_batch_size"])
        if len(sizes) > 9:
            raise AssertionError("it never ends")
        raise OutOfMemory(sizes[-1])

    monkeypatch.setattr(fit, "fit", run_out)
    values = resolve(Hyperparameters(batch_size=batch), Facts(8, 64, 2_048), "kto").values
    job = FitJob(
        base=Base("a", "a"), rows=some_rows(8, 8, 8, 8), measured=(), hyperparameters=values, work=tmp_path,
        output=tmp_path / "adapter", base_name="a", device=Device("cpu"), checkpoints=CheckpointPlan(tmp_path),
    )  # fmt: skip
    with pytest.raises(OutOfMemory):
        launch(job, None, 1, lambda event: None)
    assert sizes == tried
