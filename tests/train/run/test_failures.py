"""train/run/failures.py: divergence, full memory and a full disk are one-line errors, and the run can continue."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.train.conftest import style_rows
from train import Hyperparameters, train
from train.run.checkpoints import newest
from train.run.failures import TrainingDiverged, disk_is_full, memory_is_full

RUN = """
import json, os, resource, sys
from pathlib import Path

import train.trainers.fit, train.trainers.sft
from models.errors import ParleyError
from train import Hyperparameters
from train.run.progress import Stage, Validation
from train.training import train

def training(rows, base, out, listen, **numbers):
    told = []
    try:
        result = train(
            rows, base=base, out=out, validation=0.0, threads=1, save_steps=1, resume=True,
            hyperparameters=Hyperparameters(**numbers),
            progress=lambda event: (told.append(event.message) if isinstance(event, Stage) else None, listen(event)),
        )
        return {"loss": result.loss_after, "told": told}
    except ParleyError as error:
        return {"error": str(error), "kind": type(error).__name__, "told": told}
"""

MEMORY = (
    RUN
    + """
base, folder = Path(sys.argv[1]), Path(sys.argv[2])
words = "It is on its way. " * 20
rows = [
    {"messages": [{"role": "user", "content": "x" * 600 + str(i)}, {"role": "assistant", "content": words}]}
    for i in range(16)
]

def held():
    line = next(line for line in open("/proc/self/status") if line.startswith("VmSize"))
    return int(line.split()[1]) * 1024

def limited(more):
    out = folder / str(more)
    def listen(event):
        if isinstance(event, Validation) and more:  # the model is there, the first step is not
            resource.setrlimit(resource.RLIMIT_AS, (held() + (more << 20), resource.RLIM_INFINITY))
            listen_no_more.append(event)
    listen_no_more = []
    return training(
        rows, base, out, lambda event: None if listen_no_more else listen(event), epochs=1, rank=4, batch_size=16
    )

for more in (0, 60, *range(360, 60, -60)):  # MiB above what is held; 0 is no limit
    if (child := os.fork()) == 0:
        (folder / f"{more}.json").write_text(json.dumps(limited(more)))
        os._exit(0)
    os.waitpid(child, 0)
    end = json.loads((folder / f"{more}.json").read_text())
    if "loss" in end and "Out of memory" in str(end["told"]):
        break  # found what one machine cannot tell another: a limit that half of the rows stay under
"""
)


@pytest.mark.training
@pytest.mark.skipif(sys.platform != "linux", reason="the limit of a process's memory is Linux's")
def test_out_of_memory_halves_the_rows_at_a_time_and_not_the_batch(tiny_base: Path, tmp_path: Path) -> None:
    """A real memory limit; several limits, because the need of a step depends on the machine."""
    trials = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tiny_base), str(tmp_path)], check=False, capture_output=True, text=True
    )
    assert trials.returncode == 0, trials.stderr[-3000:]
    ends = {int(path.stem): json.loads(path.read_text("utf-8")) for path in tmp_path.glob("*.json")}
    free = ends.pop(0)
    halved = [end for end in ends.values() if "loss" in end and any("Out of memory" in line for line in end["told"])]
    assert halved, ends
    for end in halved:
        assert end["loss"] == pytest.approx(free["loss"], rel=1e-3)  # a step trained on as many rows
        line = next(line for line in end["told"] if "Out of memory" in line)
        assert line.startswith("Out of memory with 16 rows at a time: 8 at a time from now on")
    for end in ends.values():
        if "error" in end:
            assert end["kind"] == "OutOfMemory"
            assert "\n" not in end["error"]
            assert end["error"].endswith("lower max_length, hold the base in 4 bits (qlora), or take a smaller base.")


DISK = (
    RUN
    + """
base, out = Path(sys.argv[1]), Path(sys.argv[2])
rows = json.loads(Path(sys.argv[3]).read_text())
print(json.dumps(training(rows, base, out, lambda event: None, epochs=1, rank=32, batch_size=4)))
"""
)


@pytest.mark.training
def test_a_full_disk_is_one_line_and_the_run_continues_when_there_is_room(tiny_base: Path, tmp_path: Path) -> None:
    """A file system of 3 MiB, in a mount namespace of the test's own."""
    rows, disk = tmp_path / "rows.json", tmp_path / "disk"
    rows.write_text(json.dumps(style_rows(40)), "utf-8")
    disk.mkdir()
    unshare = ["unshare", "--user", "--map-root-user", "--mount"]
    if not shutil.which("unshare") or subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system lets nobody mount a file system of their own (unshare)")
    command = f'"{sys.executable}" -c "$SCRIPT" "{tiny_base}" "{disk}/run" "{rows}"'
    script = (
        f'mount -t tmpfs -o size=3m parley "{disk}" && {command} && cp -r "{disk}/run" "{tmp_path}/full" && '
        f'mount -o remount,size=100m "{disk}" && {command} && cp -r "{disk}/run" "{tmp_path}/free"'
    )
    finished = subprocess.run(
        [*unshare, "sh", "-c", script], capture_output=True, text=True, check=False, env=os.environ | {"SCRIPT": DISK}
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    full, free = (json.loads(line) for line in finished.stdout.splitlines())
    assert full["kind"] == "NoSpace"
    assert full["error"].startswith("No space left for the run in ")
    assert "parley train --resume run" in full["error"]
    whole = newest(tmp_path / "full").saved
    assert whole
    assert any(line.startswith(f"Resuming from step {whole.step}") for line in free["told"])
    alone = train(
        style_rows(40), base=tiny_base, out=tmp_path / "alone", validation=0.0, threads=1,
        hyperparameters=Hyperparameters(epochs=1, rank=32, batch_size=4),
    )  # fmt: skip
    ours, theirs = (run / "adapter" / "adapter_model.safetensors" for run in (alone.run_folder, tmp_path / "free"))
    assert ours.read_bytes() == theirs.read_bytes()


def broken_base(base: Path, folder: Path) -> Path:
    """A base in which "Z" makes the loss NaN."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model: Any = AutoModelForCausalLM.from_pretrained(str(base))
    tokenizer: Any = AutoTokenizer.from_pretrained(str(base))
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(model.model.embed_tokens.weight.detach().clone())
    model.model.embed_tokens.weight.data[tokenizer.convert_tokens_to_ids("Z")] = torch.nan
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    return folder


@pytest.mark.training
def test_a_loss_that_is_no_number_names_the_step_and_the_last_good_checkpoint(tiny_base: Path, tmp_path: Path) -> None:
    rows = style_rows(40)
    rows[17]["messages"][0]["content"] = "Z"
    with pytest.raises(TrainingDiverged) as caught:
        train(
            rows, base=broken_base(tiny_base, tmp_path / "base"), out=tmp_path / "run", save_steps=1, threads=1,
            validation=style_rows(10, seed=5), hyperparameters=Hyperparameters(epochs=1, rank=4, batch_size=4),
        )  # fmt: skip
    error = caught.value
    assert error.step > 1
    assert error.checkpoint == tmp_path / "run" / "checkpoints" / f"step-{error.step - 1}"
    assert str(error) == (
        f"The loss is nan at step {error.step}: training stopped. The last good checkpoint is {error.checkpoint}. "
        "Lower the learning rate (it is 0.004), or check whether the base is damaged."
    )
    checkpoint = newest(tmp_path / "run").saved
    assert checkpoint
    assert checkpoint.folder == error.checkpoint


@pytest.mark.parametrize(
    ("error", "memory", "disk"),
    [
        (MemoryError(), True, False),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"), True, False),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."), True, False),
        (OSError(28, "No space left on device"), False, True),
        (OSError(122, "Disk quota exceeded"), False, True),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"), False, True),
        (RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"), False, True),
        (OSError(5, "Input/output error"), False, False),
        (ValueError("out of memory"), False, False),
    ],
)
def test_what_exceptions_mean(error: Exception, memory: bool, disk: bool) -> None:
    assert memory_is_full(error) is memory
    assert disk_is_full(error) is disk


def test_a_cause_counts_as_well() -> None:
    def write() -> None:
        try:
            raise OSError(28, "No space left on device")
        except OSError:
            raise RuntimeError("the writer failed")  # noqa: B904 -- as torch does it

    with pytest.raises(RuntimeError) as caught:
        write()
    assert disk_is_full(caught.value)
