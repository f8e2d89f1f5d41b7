"""bench/training: both sides learn the same rows to the same loss, and the leak test finds a leak."""

from pathlib import Path

import pytest

from bench.training.__main__ import main
from bench.training.measurements import RunResult, StepClock, measure_leak, train_padded, train_parley
from tests.tiny_model import make_base
from tests.train.conftest import style_rows


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base") / "tiny")


@pytest.mark.training
def test_both_sides_reach_the_same_loss_step_by_step(base: Path) -> None:
    rows = style_rows(8)
    packed, plain = train_parley(rows, base, "packed", 4, 1), train_padded(rows, base, 4, 1)
    assert packed.losses == pytest.approx(plain.losses, abs=1e-3)
    assert packed.loss_after == pytest.approx(plain.loss_after, rel=0.005)
    assert packed.tokens_per_cpu_s > plain.tokens_per_cpu_s


@pytest.mark.long
def test_packed_rows_do_not_leak(base: Path) -> None:
    leak = measure_leak(style_rows(6), base, 1)
    assert leak.neighbours == 0
    assert leak.alone_relative <= 1e-5
    assert leak.rows == 6


def test_the_first_step_is_not_timed() -> None:
    clock = StepClock()
    for step in (1, 2, 3):
        clock.tick(100 * step, 1.0 / step)
    result = clock.result(0.5)
    assert isinstance(result, RunResult)
    assert result.losses == (1.0, 0.5, 1 / 3)
    assert result.tokens_per_s > 0


def test_without_a_base_it_says_so(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from bench.evals import bitext

    assert main(["--base", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert ("base is not built" if bitext.FILE.is_file() else "data is missing") in error
