"""The two sides of the comparison: `parley train`'s own code, and TRL's plain script.

    python -m bench.real.sides parley|trl JOB_FILE

Both have the same rows in each step, order, seed, float32, LoRA on all linear layers without dropout, no checkpointing
of activations, and the mean over learnt tokens as loss. Everything else is as each of them does it.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench.real.windows import WindowClock, WindowJob, WindowsDone, print_window


def train_parley(job: WindowJob, clock: WindowClock) -> None:
    """Trains with `train`, the code of `parley train`, until the clock's last window."""
    from train import Hyperparameters, train
    from train.run.progress import Event, Step

    def on_event(event: Event) -> None:
        if isinstance(event, Step):
            clock.tick(event.loss)

    with tempfile.TemporaryDirectory(prefix="parley-bench-") as folder, suppress(WindowsDone):
        train(
            list(job.rows), base=job.base, out=Path(folder) / "run", validation=list(job.validation),
            progress=on_event, threads=job.threads,
            hyperparameters=Hyperparameters(
                epochs=1, rank=job.rank, alpha=job.alpha, learning_rate=job.rate, batch_size=job.batch,
                max_length=job.max_length, schedule="constant", warmup=0, precision="fp32", checkpointing=False,
                seed=job.seed,
            ),
        )  # fmt: skip


def train_trl(job: WindowJob, clock: WindowClock) -> None:
    """Trains with TRL's SFTTrainer as its documentation shows, until the clock's last window."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import TrainerCallback, set_seed
    from trl import SFTConfig, SFTTrainer

    class LossCallback(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if logs and "loss" in logs:
                clock.tick(logs["loss"])

    torch.set_num_threads(job.threads)
    set_seed(job.seed)
    with tempfile.TemporaryDirectory(prefix="parley-bench-") as folder, suppress(WindowsDone):
        trainer = SFTTrainer(
            model=job.base,
            args=SFTConfig(
                output_dir=folder, per_device_train_batch_size=job.batch, max_steps=sum(job.windows),
                learning_rate=job.rate, lr_scheduler_type="constant", optim="adamw_torch", use_cpu=True, bf16=False,
                gradient_checkpointing=False, assistant_only_loss=True, max_length=job.max_length, logging_steps=1,
                save_strategy="no", report_to="none", disable_tqdm=True, seed=job.seed,
                train_sampling_strategy="sequential", model_init_kwargs={"dtype": "float32"},
            ),
            train_dataset=Dataset.from_list([job.rows[place] for place in job.order]),
            peft_config=LoraConfig(
                task_type="CAUSAL_LM", target_modules="all-linear", r=job.rank, lora_alpha=job.alpha, lora_dropout=0.0
            ),
            callbacks=[LossCallback()],
        )  # fmt: skip
        trainer.train()


SIDES: Mapping[str, Callable[[WindowJob, WindowClock], None]] = {"parley": train_parley, "trl": train_trl}


def main(name: str, path: Path) -> None:
    """Runs one side as its job's file says; a line on standard input starts each window after the first."""
    values = json.loads(path.read_text("utf-8"))
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    job = WindowJob(**fields)

    def wait() -> None:
        if not sys.stdin.readline():
            raise WindowsDone  # the parent process has ended

    SIDES[name](job, WindowClock(job.windows, print_window, wait))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
