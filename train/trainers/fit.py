"""The fit: rows in, an adapter's files (or whole weights) and two losses out, with any method.

`sft`, `dpo` and `kto` build the methods' trainers; this file holds what they share. It knows no data files and no
registry.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from transformers import set_seed
from transformers.trainer_callback import PrinterCallback
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from train.hyperparameters import Chosen
from train.run.progress import Progress, Stage, Validation, combine_listeners
from train.trainers.adapters import round_trained, save_adapter, save_weights, saved_dtype
from train.trainers.bases import Base, load_model, stored_dtype
from train.trainers.checkpoint_callback import CheckpointCallback
from train.trainers.fit_job import FitJob, FitResult, Measured, rows_at_once
from train.trainers.lora_layers import fuse_lora_layers
from train.trainers.losses import add_learnt_head
from train.trainers.packing import PackedCollator, PaddedCollator, attend_by_row, leak_limit, strays
from train.trainers.progress_callback import ProgressCallback
from train.trainers.runtime import Memory
from train.trainers.tokenised_trainer import TrainerParts
from train.trainers.turn_end_labels import find_turn_end_label


def fit(job: FitJob, tokenizer: Any, emit: Progress) -> FitResult:
    """Trains, and writes an adapter, or the whole weights after full tuning, to `job.output`.

    Args:
        tokenizer: the base's.
        emit: receives every event; an exception that it raises ends the training.

    Raises:
        TrainingDiverged: NaN or infinity in the loss, with the step. OutOfMemory, NoSpace.
    """
    values = job.hyperparameters
    set_seed(values.seed)
    memory = Memory(job.device.kind)
    emit(Stage(f"Loading {job.base.name} ({_describe_precision(values)}, {job.device.kind})"))
    trainer, measure = _build_trainer(job, tokenizer, emit)
    if job.processes > 1:
        measure = _agreed(measure)
    fuse_lora_layers(trainer.model)
    if job.shard != "none":
        from train.trainers.sharding import exclude_from_ddp

        divided = exclude_from_ddp(trainer.model)
        emit(Stage(f"FSDP: {divided} weights of the base are divided among {job.processes} processes"))
    if values.precision == "fp16":
        # TRL puts a QLoRA's adapter into bf16, whose gradients a scaled loss cannot be taken back from.
        for parameter in trainer.model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
    # What is saved is rounded to its stored precision; the state beside it in a checkpoint is not.
    stored = stored_dtype(job.base)
    dtype = stored if values.tune == "full" else saved_dtype(values, stored)

    def save(model: Any, folder: Path) -> None:
        if values.tune == "full":
            save_weights(model, tokenizer, folder, dtype)
        else:
            save_adapter(model, folder, job.base_name, dtype)

    checkpoints = CheckpointCallback(job.checkpoints, lambda model, folder: save(model, folder / job.output.name), emit)
    emit = combine_listeners(emit, checkpoints.on_event)
    progress = ProgressCallback(len(job.rows), values, measure, memory, emit, checkpoints)
    trainer.add_callback(progress)
    trainer.remove_callback(PrinterCallback)
    checkpoints.attach(trainer)

    def measure_first() -> dict[str, Any]:
        before = measure()
        emit(Validation(0, before.loss, before.accuracy, before.margin))
        return asdict(before)

    before = Measured(**checkpoints.once("before", measure_first))
    checkpoints.train()
    if progress.best:
        progress.best.restore_if_better(trainer.model, measure().loss)
    # The loss is measured on what is saved, so the trained weights are rounded to their stored precision first.
    round_trained(trainer.model, dtype)
    after = measure()
    emit(Validation(trainer.state.global_step, after.loss, after.accuracy, after.margin))
    if trainer.is_world_process_zero():
        save(trainer.model, job.output)
    learnt = sum(row.learnt for row in job.rows) / sum(row.tokens for row in job.rows)
    return FitResult(
        before=before,
        after=after,
        steps=trainer.state.global_step,
        tokens=progress.tokens,
        learnt_tokens=round(progress.tokens * learnt),
        seconds=progress.seconds,
        peak_memory_bytes=memory.peak(),
        best_step=progress.best.step if progress.best else None,
    )


def _agreed(measure: Callable[[], Measured]) -> Callable[[], Measured]:
    """Returns the first process's measurement in all processes. On other hardware the last digits may differ, and early
    stopping must decide the same everywhere.
    """
    from accelerate.utils import broadcast_object_list

    def measured() -> Measured:
        values = [measure()]
        broadcast_object_list(values)
        return values[0]

    return measured


def _build_trainer(job: FitJob, tokenizer: Any, emit: Progress) -> tuple[Any, Callable[[], Measured]]:
    """The method's trainer, and a function that measures its model."""
    values = job.hyperparameters
    model = _load_for(job)
    job = _with_learnable_turn_end(job, model, tokenizer, emit)
    rows: Any = job.rows  # pairs for DPO, labelled rows for KTO
    measured: Any = job.measured
    arguments = _trainer_arguments(job)
    adapter, pad_token = _lora_config(values), _pad_token(tokenizer)
    reference = load(job.base, values, job.device.kind) if adapter is None and values.method != "sft" else None
    parts = TrainerParts(model, tokenizer, pad_token, adapter, reference)
    if values.method == "dpo":
        from train.trainers.dpo import PairMeter, dpo_trainer

        dpo = dpo_trainer(parts, rows, arguments | {"beta": values.beta})
        return dpo, PairMeter(dpo, measured)
    if values.method == "kto":
        from train.trainers.kto import LabelMeter, kto_trainer

        kto = kto_trainer(parts, rows, arguments | {"beta": values.beta})
        return kto, LabelMeter(kto, measured)
    from train.trainers.losses import measure
    from train.trainers.sft import sft_trainer

    collate = _collator(model, job, pad_token, emit)
    add_learnt_head(model)
    sft = sft_trainer(parts, rows, arguments, collate)
    return sft, lambda: measure(sft.model, measured, pad_token)


def _with_learnable_turn_end(job: FitJob, model: Any, tokenizer: Any, emit: Progress) -> FitJob:
    """The job with rows that end each answer with a token that the base has learnt, if the template's is not."""
    label = find_turn_end_label(model, tokenizer)
    if label is None:
        return job
    reason = f"The base has not learnt the template's {_token(tokenizer, label.end)}"
    if job.hyperparameters.tune != "full":
        reason += ", and an adapter cannot learn it"
    if label.learnt is None:
        emit(Stage(f"{reason}: answers may not end. Use another --chat-template"))
        return job
    emit(Stage(f"{reason}: the model learns to end answers with {_token(tokenizer, label.learnt)} instead"))
    return replace(job, rows=label.apply(job.rows), measured=label.apply(job.measured))


def _token(tokenizer: Any, token: int) -> str:
    return str(tokenizer.convert_ids_to_tokens(token))


def _collator(model: Any, job: FitJob, pad_token: int, emit: Progress) -> Callable[[Any], dict[str, Any]]:
    """How rows become a batch: as requested, if no row of this model can see another."""
    packed = job.hyperparameters.packing == "packed"
    # Flash attention's kernels take 16 bits only.
    flash = packed and job.device.flash and next(model.parameters()).dtype != torch.float32
    # Experts that are balanced by a loss of their own must know which tokens are padding.
    experts = hasattr(model.config.get_text_config(), "output_router_logits")
    if packed or (job.device.kind == "cpu" and not experts):
        rows: Any = job.rows
        difference = strays(model, rows, flash)
        if difference <= leak_limit(model):
            attend_by_row(model, flash)
            return PackedCollator() if packed else PaddedCollator(pad_token)
        if packed:
            emit(
                Stage(
                    f"Rows are not packed: in this model they would influence each other (logits differ by "
                    f"{difference:.1g})"
                )
            )
    return DataCollatorForLanguageModeling(pad_token_id=pad_token)


def _load_for(job: FitJob) -> Any:
    """The base on the job's device, or this process's part of it."""
    if job.shard == "none":
        return load(job.base, job.hyperparameters, job.device.kind)
    from train.trainers.sharding import shard_base

    model = load(job.base, job.hyperparameters, "cpu")  # it may be too large for one GPU
    shard_base(model, job.device.kind, job.processes)
    # What is not divided: embeddings, the last layer and norms.
    return model.to(job.device.kind)


def load(base: Base, values: Chosen, device: str) -> Any:
    """The base's weights in the run's precision. Full tuning holds them in float32 under autocast, because small steps
    are lost in 16 bits; below an adapter they are held in 16 bits if the run computes in 16 bits.
    """
    halves = {"bf16": torch.bfloat16, "fp16": torch.float16}
    dtype = torch.float32 if values.tune == "full" else halves.get(values.precision, torch.float32)
    return load_model(base, dtype, device, quantised=values.tune == "qlora")


def _describe_precision(values: Chosen) -> str:
    return {"qlora": "4-bit", "full": f"{values.precision}, every weight"}.get(values.tune, values.precision)


def _lora_config(values: Chosen) -> LoraConfig | None:
    if values.tune == "full":
        return None
    return LoraConfig(
        task_type="CAUSAL_LM",
        target_modules="all-linear",
        r=values.rank,
        lora_alpha=values.alpha,
        lora_dropout=values.dropout,
        use_rslora=values.rslora,
        use_dora=values.dora,
    )


def _trainer_arguments(job: FitJob) -> dict[str, Any]:
    """The TRL configuration that all methods share."""
    values, rows = job.hyperparameters, job.rows
    batch = values.batch_size
    steps = max(1, round(math.ceil(len(rows) / batch) * values.epochs))
    # On several processes each works on its share of a batch.
    share = batch // job.processes
    micro = rows_at_once(values.method, share, max(row.longest for row in rows), job.checkpoints.rows_at_most)
    return {
        "output_dir": str(job.work),
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": batch // (micro * job.processes),
        "max_steps": steps,
        "learning_rate": values.learning_rate,
        "lr_scheduler_type": "constant_with_warmup" if values.schedule == "constant" else values.schedule,
        "warmup_steps": round(values.warmup * steps),
        "weight_decay": values.weight_decay,
        "max_grad_norm": values.max_grad_norm,
        "optim": "adamw_torch",
        "bf16": values.precision == "bf16",
        "fp16": values.precision == "fp16",
        "use_cpu": job.device.kind == "cpu",
        "gradient_checkpointing": values.checkpointing,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # the default hides a NaN behind the last good loss
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": job.device.kind == "cuda",
        "seed": values.seed,
    }


def _pad_token(tokenizer: Any) -> int:
    # Padding is masked and carries no label, so any id will do if the tokenizer has no padding token.
    return next((token for token in (tokenizer.pad_token_id, tokenizer.eos_token_id) if token is not None), 0)
