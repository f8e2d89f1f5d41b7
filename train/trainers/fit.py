"""The training itself: rows in, an adapter's files (or whole weights) and two losses out, whatever the method.

The methods' own trainers are made in `sft` and `dpo`; here is what they share. It knows no files of conversations
and no registry.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from transformers import set_seed
from transformers.trainer_callback import PrinterCallback
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from train.hyperparameters import Chosen
from train.run.progress import Progress, Stage, Validation, together
from train.trainers.adapters import round_trained, save_adapter, save_weights, saved_dtype
from train.trainers.bases import Base, load_model, stored_dtype
from train.trainers.batches import micro_batch
from train.trainers.checkpoint_callback import Keeper, Keeping
from train.trainers.heads import add_learnt_head
from train.trainers.losses import Measured
from train.trainers.memory import Memory
from train.trainers.packing import PackedCollator, PaddedCollator, attend_by_row, leak_limit, strays
from train.trainers.pairs import Pair
from train.trainers.progress_callback import Watcher
from train.trainers.tokens import Row

Rows = Sequence[Row] | Sequence[Pair]


@dataclass(frozen=True)
class Fitted:
    """What the training itself measured, over all rows measured; `best_step` where it went back to an earlier one."""

    before: Measured
    after: Measured
    steps: int
    tokens: int
    learnt_tokens: int
    seconds: float
    peak_memory_bytes: int
    best_step: int | None = None


@dataclass(frozen=True)
class Place:
    """Where a run works: a folder for the trainer's own files, the folder of what is trained, and the device.

    `base_name` is what adapter_config.json calls the base: a name that means something on other machines. `flash` says
    that flash attention is there; `processes` share each batch (`launching`).
    """

    work: Path
    adapter: Path
    base_name: str
    device: str
    flash: bool = False
    processes: int = 1


def fit(
    base: Base,
    tokenizer: Any,
    rows: Rows,
    measured: Rows,
    settings: Chosen,
    place: Place,
    progress: Progress,
    keeping: Keeping,
) -> Fitted:
    """Trains, and writes an adapter, or whole weights after full tuning, to the folder `place.adapter`.

    Args:
        base: the weights, which stay as they are. tokenizer: its tokenizer.
        rows: what is learnt: rows, or pairs for DPO. measured: what the losses before, after and between are taken on.
        settings: the run's hyperparameters.
        progress: told of every step; what it raises ends the training.
        keeping: where checkpoints go, and the one to go on from.

    Raises:
        TrainingDiverged: NaN or infinity in the loss, with the step. OutOfMemory, NoSpace.
    """
    set_seed(settings.seed)
    memory = Memory(place.device)
    progress(Stage(f"Loading {base.name} ({_held(settings)}, {place.device})"))
    trainer, measure = _trainer(base, tokenizer, rows, measured, settings, place, keeping.rows_at_most, progress)
    if settings.precision == "fp16":
        # TRL puts a QLoRA's adapter into bf16, whose gradients a scaled loss cannot be taken back from.
        for parameter in trainer.model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
    # What is saved is rounded to its stored precision; the state beside it in a checkpoint is not.
    stored = stored_dtype(base)
    dtype = stored if settings.tune == "full" else saved_dtype(settings, stored)

    def save(model: Any, folder: Path) -> None:
        if settings.tune == "full":
            save_weights(model, tokenizer, folder, dtype)
        else:
            save_adapter(model, folder, place.base_name, dtype)

    keeper = Keeper(keeping, lambda model, folder: save(model, folder / place.adapter.name), progress)
    progress = together(progress, keeper.hear)
    watcher = Watcher(len(rows), settings, measure, memory, progress, keeper)
    trainer.add_callback(watcher)
    trainer.remove_callback(PrinterCallback)
    keeper.hang_on(trainer)

    def first() -> dict[str, Any]:
        before = measure()
        progress(Validation(0, before.loss, before.accuracy, before.margin))
        return asdict(before)

    before = Measured(**keeper.once("before", first))
    keeper.train()
    if watcher.best:
        watcher.best.restore_if_better(trainer.model, measure().loss)
    # The loss is measured on what is saved, so what was trained is rounded to its stored precision first.
    round_trained(trainer.model, dtype)
    after = measure()
    progress(Validation(trainer.state.global_step, after.loss, after.accuracy, after.margin))
    if trainer.is_world_process_zero():
        save(trainer.model, place.adapter)
    learnt = sum(row.learnt for row in rows) / sum(row.tokens for row in rows)
    return Fitted(
        before=before,
        after=after,
        steps=trainer.state.global_step,
        tokens=watcher.tokens,
        learnt_tokens=round(watcher.tokens * learnt),
        seconds=watcher.seconds,
        peak_memory_bytes=memory.peak(),
        best_step=watcher.best.step if watcher.best else None,
    )


def _trainer(
    base: Base,
    tokenizer: Any,
    rows: Any,
    measured: Any,
    settings: Chosen,
    place: Place,
    most: int | None,
    progress: Progress,
) -> tuple[Any, Callable[[], Measured]]:
    """The method's trainer, and what measures its model."""
    model = load(base, settings, place.device)
    arguments = _arguments(settings, rows, place, most)
    adapter = _adapter(settings)
    pad_token = _pad_token(tokenizer)
    if settings.method == "dpo":
        from train.trainers.dpo import PairMeter, dpo_trainer

        reference = load(base, settings, place.device) if adapter is None else None
        trainer: Any = dpo_trainer(model, reference, tokenizer, rows, arguments, pad_token, settings.beta, adapter)
        return trainer, PairMeter(trainer, measured)
    from train.trainers.losses import measure
    from train.trainers.sft import sft_trainer

    collate = _collator(model, rows, settings, place, pad_token, progress)
    add_learnt_head(model)
    sft = sft_trainer(model, tokenizer, rows, arguments, collate, adapter)
    return sft, lambda: measure(sft.model, measured, pad_token)


def _collator(
    model: Any, rows: Sequence[Row], settings: Chosen, place: Place, pad_token: int, progress: Progress
) -> Callable[[Any], dict[str, Any]]:
    """How rows become a batch: as asked, where the model stands the proof that no row sees another."""
    packed = settings.packing == "packed"
    flash = packed and place.flash and next(model.parameters()).dtype != torch.float32  # its kernels take 16 bits only
    # Experts that are balanced by a loss of their own must know which tokens are padding.
    experts = hasattr(model.config.get_text_config(), "output_router_logits")
    if packed or (place.device == "cpu" and not experts):
        strayed = strays(model, rows, flash)
        if strayed <= leak_limit(model):
            attend_by_row(model, flash)
            return PackedCollator() if packed else PaddedCollator(pad_token)
        if packed:
            progress(
                Stage(f"Rows are not packed: in this model they would not stay apart (logits stray by {strayed:.1g})")
            )
    return DataCollatorForLanguageModeling(pad_token_id=pad_token)


def load(base: Base, settings: Chosen, device: str) -> Any:
    """The base's weights, held as the run holds them: all of them are learnt in float32 under autocast, because small
    steps are lost in 16 bits; a base that only an adapter changes is held in 16 bits where the run is.
    """
    halves = {"bf16": torch.bfloat16, "fp16": torch.float16}
    dtype = torch.float32 if settings.tune == "full" else halves.get(settings.precision, torch.float32)
    return load_model(base, dtype, device, quantised=settings.tune == "qlora")


def _held(settings: Chosen) -> str:
    return {"qlora": "4-bit", "full": f"{settings.precision}, every weight"}.get(settings.tune, settings.precision)


def _adapter(settings: Chosen) -> LoraConfig | None:
    if settings.tune == "full":
        return None
    return LoraConfig(
        task_type="CAUSAL_LM",
        target_modules="all-linear",
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        use_rslora=settings.rslora,
        use_dora=settings.dora,
    )


def _arguments(settings: Chosen, rows: Rows, place: Place, most: int | None) -> dict[str, Any]:
    """What every method's trainer is told."""
    batch = settings.batch_size
    steps = max(1, round(math.ceil(len(rows) / batch) * settings.epochs))
    longest = max(row.longest for row in rows) * (2 if settings.method == "dpo" else 1)
    # On several processes each works on its share of a batch.
    micro = micro_batch(batch // place.processes, longest, rows=most)
    return {
        "output_dir": str(place.work),
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": batch // (micro * place.processes),
        "max_steps": steps,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": "constant_with_warmup" if settings.schedule == "constant" else settings.schedule,
        "warmup_steps": round(settings.warmup * steps),
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_grad_norm,
        "optim": "adamw_torch",
        "bf16": settings.precision == "bf16",
        "fp16": settings.precision == "fp16",
        "use_cpu": place.device == "cpu",
        "gradient_checkpointing": settings.checkpointing,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # the default hides a NaN behind the last good loss
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": place.device == "cuda",
        "seed": settings.seed,
    }


def _pad_token(tokenizer: Any) -> int:
    # Padding is masked and carries no label, so any id will do where a tokenizer has none of its own.
    return next((token for token in (tokenizer.pad_token_id, tokenizer.eos_token_id) if token is not None), 0)
