"""train/run/checkpoints.py: a run that was interrupted ends as it would have ended, whatever it trains."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from models.errors import Busy, Invalid, NotFound
from models.settings.settings import Settings
from tests.train.conftest import style_rows
from train.run.folder import find_run, interrupted, lock_run
from train.run.progress import Checkpoint, Event, Stage, Step

TIMES = ("seconds", "seconds_left", "tokens_per_s", "memory_bytes")


class Interrupted(BaseException):
    """As unexpected as a kill; `bench.kills` uses SIGKILL."""


def pairs(number: int) -> list[dict[str, Any]]:
    """Preference rows in OpenAI's form."""
    return [
        {
            "input": {"messages": row["messages"][:1]},
            "preferred_output": row["messages"][1:],
            "non_preferred_output": [{"role": "assistant", "content": "No idea."}],
        }
        for row in style_rows(number)
    ]


def run(base: Path, out: Path, *, stop_at: Any = None, **changes: Any) -> tuple[Any, list[Event]]:
    """A small run; ends with Interrupted at the first event for which `stop_at` returns true."""
    from train import Hyperparameters, train

    events: list[Event] = []

    def listen(event: Event) -> None:
        events.append(event)
        if stop_at and stop_at(event):
            raise Interrupted

    numbers = {"epochs": 2, "rank": 4, "batch_size": 4} | changes.pop("numbers", {})
    if numbers.get("tune") == "full":
        del numbers["rank"]
    options: dict[str, Any] = {"validation": 0.2, "threads": 1, "save_steps": 2, "resume": True} | changes
    data = options.pop("data", None) or (pairs(30) if options.get("method") == "dpo" else style_rows(30))
    hyperparameters = Hyperparameters(**numbers)
    return train(data, base=base, out=out, hyperparameters=hyperparameters, progress=listen, **options), events


def interrupt(base: Path, out: Path, stop_at: Any, **options: Any) -> None:
    with pytest.raises(Interrupted):
        run(base, out, stop_at=stop_at, **options)


def at_step(step: int) -> Any:
    return lambda event: isinstance(event, Step) and event.step == step


def at_checkpoint(step: int) -> Any:
    return lambda event: isinstance(event, Checkpoint) and event.step == step


def weights(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def metrics(out: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text("utf-8").splitlines()]
    return [{name: value for name, value in line.items() if name not in TIMES} for line in lines]


KINDS: dict[str, dict[str, Any]] = {
    "dora with dropout": {"numbers": {"dora": True, "dropout": 0.1}},
    "full, packed": {"numbers": {"tune": "full", "packing": "packed"}},
    "dpo": {"method": "dpo"},
    "qlora": {"numbers": {"tune": "qlora"}},
    "stops early": {"numbers": {"epochs": 8, "early_stopping": 1, "validate_every": 2, "learning_rate": 0.1}},
}


@pytest.mark.training
@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_run_ends_as_it_would_have_ended(tiny_base: Path, tmp_path: Path, kind: str) -> None:
    whole, events = run(tiny_base, tmp_path / "whole", **KINDS[kind])
    steps = [event.step for event in events if isinstance(event, Step)]
    out = tmp_path / "parts"
    interrupt(tiny_base, out, at_step(1), **KINDS[kind])  # before there is a checkpoint
    assert interrupted(out)
    interrupt(tiny_base, out, at_step(steps[len(steps) // 2]), **KINDS[kind])
    interrupt(tiny_base, out, at_checkpoint(steps[-1]), **KINDS[kind])  # training is complete, and nothing is written
    parts, later_events = run(tiny_base, out, **KINDS[kind])
    assert not any(isinstance(event, Step) for event in later_events)
    assert weights(parts.adapter) == weights(whole.adapter)
    assert (parts.loss_before, parts.loss_after, parts.tokens, parts.steps, parts.best_step) == (
        whole.loss_before, whole.loss_after, whole.tokens, whole.steps, whole.best_step
    )  # fmt: skip
    assert metrics(out) == metrics(tmp_path / "whole")
    assert not interrupted(out)
    if kind == "stops early":
        assert whole.steps < 48


@pytest.mark.training
def test_two_processes_learn_what_one_learns_and_resume(tiny_base: Path, tmp_path: Path) -> None:
    """Over gloo, on a CPU, with accelerate's launcher."""
    several: dict[str, Any] = {"gpus": 2, "threads": 2, "numbers": {"epochs": 2}}
    whole, events = run(tiny_base, tmp_path / "whole", **several)
    _, alone = run(tiny_base, tmp_path / "alone", numbers={"epochs": 2})
    losses = [[event.loss for event in run_events if isinstance(event, Step)] for run_events in (alone, events)]
    assert len(losses[0]) == 12
    assert losses[0] == pytest.approx(losses[1], abs=1e-3)
    interrupt(tiny_base, tmp_path / "parts", at_step(9), **several)  # within the second epoch, whose order differs
    parts, _ = run(tiny_base, tmp_path / "parts", **several)
    assert weights(parts.adapter) == weights(whole.adapter)
    assert metrics(tmp_path / "parts") == metrics(tmp_path / "whole")


@pytest.mark.training
def test_a_finished_run_says_so_and_gives_its_result(tiny_base: Path, tmp_path: Path) -> None:
    first, _ = run(tiny_base, tmp_path / "run")
    again, events = run(tiny_base, tmp_path / "run")
    assert again.to_json() == first.to_json()
    assert [event.message for event in events if isinstance(event, Stage)] == ["This run has finished already"]


@pytest.mark.training
def test_a_flipped_byte_in_the_newest_checkpoint_costs_its_steps_and_no_more(tiny_base: Path, tmp_path: Path) -> None:
    whole, _ = run(tiny_base, tmp_path / "whole")
    out = tmp_path / "parts"
    interrupt(tiny_base, out, at_step(5))
    damaged = out / "checkpoints" / "step-4" / "state" / "optimizer.pt"
    content = bytearray(damaged.read_bytes())
    content[-100] ^= 1
    damaged.write_bytes(content)
    parts, events = run(tiny_base, out)
    stages = [event.message for event in events if isinstance(event, Stage)]
    assert any("Warning: a damaged checkpoint is skipped: step-4: state/optimizer.pt" in line for line in stages)
    assert any(line.startswith("Resuming from step 2") for line in stages)
    assert "step-4: state/optimizer.pt" in (out / "train.log").read_text("utf-8")
    assert weights(parts.adapter) == weights(whole.adapter)
    assert metrics(out) == metrics(tmp_path / "whole")


@pytest.mark.training
def test_what_a_run_leaves_in_its_folder(tiny_base: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    result, events = run(tiny_base, out)
    assert {path.name for path in out.iterdir()} >= {
        "config.json", "data.json", "environment.json", "metrics.jsonl", "train.log", "result.json", "adapter",
        "checkpoints",
    }  # fmt: skip
    kept = sorted(path.name for path in (out / "checkpoints").iterdir())
    assert kept == ["step-12", "step-6"]  # the ends of both epochs
    for name in kept:
        published = {path.name for path in (out / "checkpoints" / name / "adapter").iterdir()}
        assert published == {"adapter_config.json", "adapter_model.safetensors"}
    # The last checkpoint's adapter is the run's own.
    assert weights(out / "checkpoints" / "step-12" / "adapter") == weights(result.adapter)
    saved = [event for event in events if isinstance(event, Checkpoint)]
    assert [event.step for event in saved] == [2, 4, 6, 8, 10, 12]
    assert saved[2].loss is not None
    assert saved[2].epoch == 1
    assert [row["step"] for row in metrics(out) if "checkpoint" in row] == [2, 4, 6, 8, 10, 12]
    environment = json.loads((out / "environment.json").read_text("utf-8"))
    assert environment["threads"] == 1
    assert environment["packages"]["torch"]


@pytest.mark.training
def test_another_run_is_not_taken_for_this_one(tiny_base: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    interrupt(tiny_base, out, at_step(1))
    before = (out / "config.json").read_bytes()
    with pytest.raises(Invalid, match="epochs was 2 and is 3 now"):
        run(tiny_base, out, numbers={"epochs": 3})
    with pytest.raises(Invalid, match="examples changed since"):
        run(tiny_base, out, data=style_rows(30, seed=1))
    with pytest.raises(Invalid, match="holds a run already: choose another folder, or resume it"):
        run(tiny_base, out, resume=False)
    assert (out / "config.json").read_bytes() == before


@pytest.mark.training
def test_the_command_line_continues_a_run_by_its_id(
    tiny_base: Path, house: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import typer
    from typer.testing import CliRunner

    import train.cli
    from train import Hyperparameters
    from train import train as begin

    settings, _ = house
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in style_rows(30)), "utf-8")
    numbers = Hyperparameters(epochs=1, rank=4, batch_size=4)

    def stop(event: Event) -> None:
        if isinstance(event, Step) and event.step == 4:
            raise Interrupted

    with pytest.raises(Interrupted):
        begin(data, base=tiny_base, settings=settings, hyperparameters=numbers, progress=stop, threads=1, save_steps=2)
    (waiting,) = [path for path in settings.runs_dir.iterdir() if interrupted(path)]
    monkeypatch.setenv("PARLEY_HOME", str(settings.home))
    app = typer.Typer()
    train.cli.add_commands(app)
    monkeypatch.setattr(train.cli, "_open_home", _without_registry(settings))
    finished = CliRunner().invoke(app, ["train", "--resume", waiting.name, "--json"])
    assert json.loads(finished.stdout)["steps"] == 7
    both = CliRunner().invoke(app, ["train", str(data), "--resume", waiting.name])
    assert "--resume takes everything from the run" in str(both.exception)
    planned = CliRunner().invoke(app, ["train", "--resume", waiting.name, "--plan"])
    assert "--plan is for a new training" in str(planned.exception)


def _without_registry(settings: Settings) -> Any:
    from contextlib import contextmanager

    @contextmanager
    def opened() -> Any:
        yield SimpleNamespace(settings=settings, registry=None)

    return opened


def test_a_run_is_found_by_id_and_by_folder(settings: Settings) -> None:
    folder = settings.runs_dir / "01ABC"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    assert find_run("01ABC", settings) == folder
    assert find_run(folder, settings) == folder
    with pytest.raises(NotFound, match="These did not end: 01ABC"):
        find_run("01XYZ", settings)


HOLD = "import sys, time\nfrom pathlib import Path\nfrom train.run.folder import lock_run\n"
HOLD += "with lock_run(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)\n"


@pytest.mark.long
def test_one_process_at_a_time_and_a_kill_lets_go(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Busy, match="is active in another process"), lock_run(tmp_path):
            pass
        holder.kill()
    with lock_run(tmp_path):
        pass
