"""bench/real: checkpointed stages, disjoint parts of the data, and both sides of the training comparison."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.evals import bitext
from bench.evals.bitext import Request
from bench.real import judges
from bench.real.__main__ import main
from bench.real.comparison import build_job, summarise_windows
from bench.real.judge_pairs import FAULTS, support_pairs
from bench.real.options import QUICK
from bench.real.parts import preference_rows, split_requests
from bench.real.report import missed_goals, summarise, table
from bench.real.sides import SIDES
from bench.real.stages import Stopped, open_stages
from bench.real.windows import Window, WindowClock, WindowsDone
from models.errors import Invalid
from tests.train.conftest import style_rows
from train.planning.needs import Shape

REQUESTS = tuple(
    Request(f"{verb} my {thing} {number}", f"To {verb} the {thing}, press the {verb} button.", f"{verb}_{thing}")
    for verb in ("cancel", "change")
    for thing in ("order", "account")
    for number in range(40)
)


def test_a_stage_that_has_ended_is_not_run_again(tmp_path: Path) -> None:
    folder, runs = tmp_path / "run", []

    def work() -> dict[str, Any]:
        runs.append(1)
        return {"value": 7}

    first = open_stages(folder, {"seed": 0}).run("data", work)
    again = open_stages(folder, {"seed": 0}).run("data", work)
    assert first == again
    assert (again["value"], len(runs)) == (7, 1)
    with pytest.raises(Stopped):
        open_stages(folder, {"seed": 0}, until="data").run("data", work)
    with pytest.raises(Invalid, match="other options"):
        open_stages(folder, {"seed": 1})
    open_stages(folder, {"seed": 1}, fresh=True).run("data", work)
    assert len(runs) == 2
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("mine")
    with pytest.raises(Invalid, match="other files"):
        open_stages(tmp_path / "other", {"seed": 0}, fresh=True)


def test_no_request_is_in_two_parts() -> None:
    parts = split_requests(REQUESTS, QUICK, 0)
    sizes = [len(part) for part in (parts.training, parts.validation, parts.questions, parts.pairs)]
    assert sizes == [QUICK.conversations, QUICK.validation, QUICK.questions, QUICK.pairs]
    everything = [*parts.training, *parts.validation, *parts.questions, *parts.pairs]
    assert len({request.question for request in everything}) == len(everything)
    with pytest.raises(Invalid, match="too few"):
        split_requests(REQUESTS, replace(QUICK, pairs=1_000), 0)


def test_a_pair_needs_an_answer_that_differs() -> None:
    answers = ["No idea.", None, "  ", REQUESTS[3].answer]
    (row,) = preference_rows(REQUESTS[:4], answers)
    assert row["preferred_output"][0]["content"] == REQUESTS[0].answer
    assert row["non_preferred_output"][0]["content"] == "No idea."


@pytest.mark.long
def test_windows_are_cut_and_wait_for_their_turn() -> None:
    reported: list[Window] = []
    waits: list[int] = []
    clock = WindowClock((1, 2), reported.append, lambda: waits.append(1))
    clock.tick(3.0)
    clock.tick(2.0)
    with pytest.raises(WindowsDone):
        clock.tick(1.0)
    assert [window.losses for window in reported] == [(3.0,), (2.0, 1.0)]
    assert len(waits) == 1


def test_figures_come_from_pairs_of_windows_without_the_first() -> None:
    shape = Shape(10**6, 10**6, 1000, 4, 0, 0, 0, 512, 0, 1000)
    row: Any = type("Row", (), {"tokens": 100, "learnt": 50})
    windows = {
        "parley": [Window(9.0, (2.0,), 5), Window(1.0, (1.5,), 6), Window(1.0, (1.0,), 7)],
        "trl": [Window(90.0, (2.0,), 8), Window(2.0, (1.5005,), 9), Window(2.0, (1.0,), 10)],
    }
    figures = summarise_windows(windows, [[row], [row], [row]], [0.0, 1e9, 1e9], shape)
    assert (figures["train_tokens_per_s"], figures["times_trl"]) == (100.0, 2.0)
    assert figures["share_of_limit"] == 0.4  # 100 tokens/s of 4 million operations
    assert figures["loss_apart"] == pytest.approx(5e-4)
    assert figures["peak_memory_bytes"] == {"parley": 7, "trl": 10}


@pytest.mark.training
def test_both_sides_have_the_same_losses(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    from tests.tiny_model import make_base

    base = make_base(tmp_path / "tiny")
    tokenizer: Any = AutoTokenizer.from_pretrained(str(base))
    end = "message['content'] }}<|im_end|>\n{% "
    tokenizer.chat_template = (
        "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% if message['role'] == 'assistant' %}"
        "{% generation %}{{ " + end + "endgeneration %}{% else %}{{ " + end + "endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    tokenizer.save_pretrained(str(base))
    sizes = replace(QUICK, windows=1, window_steps=2, batch=4)
    job, rows = build_job(style_rows(12), style_rows(2, seed=1), base, sizes, 1)
    assert [len(some) for some in rows] == [4, 8]
    windows_by_side: dict[str, list[Window]] = {}
    for name, train_side in SIDES.items():
        windows = windows_by_side[name] = []
        train_side(job, WindowClock(job.windows, windows.append, lambda: None))
    losses = {name: [loss for window in windows for loss in window.losses] for name, windows in windows_by_side.items()}
    assert len(losses["parley"]) == 3
    assert losses["parley"] == pytest.approx(losses["trl"], abs=1e-3)


def test_without_its_data_or_base_it_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bitext.csv"
    monkeypatch.setattr(bitext, "FILE", file)
    monkeypatch.setenv("PARLEY_TEST_REAL_BASE", str(tmp_path / "nowhere"))
    assert main(["--folder", str(tmp_path / "run")]) == 2
    file.touch()
    assert main(["--folder", str(tmp_path / "run")]) == 2
    data, base = capsys.readouterr().err.strip().splitlines()
    assert "data is missing" in data
    assert "PARLEY_TEST_REAL_BASE" in base
    assert not (tmp_path / "run").exists()


def result() -> dict[str, Any]:
    """The JSON object of a run with invented figures."""
    score = {"mean": 0.4, "low": 0.3, "high": 0.5, "n": 60, "missing": 0}
    scores = {who: dict.fromkeys(("topics", "intent", "overlap"), score) for who in ("base", "tuned", "people")}
    scores["base"]["topics"] = score | {"mean": 0.1, "low": 0.05, "high": 0.2}
    training = {"loss_before": 2.0, "loss_after": 1.0, "tokens_per_s": 100.0, "peak_memory_bytes": 4e9, "seconds": 60}
    stages = {
        "data": {"conversations": 400, "seconds": 1},
        "plan": {"tokens_per_s": 80.0, "memory_bytes": 5e9, "seconds": 1},
        "compare": {
            "train_tokens_per_s": 100.0, "trl_tokens_per_s": 50.0, "times_trl": 2.0, "share_of_limit": 0.5,
            "loss_apart": 1e-5, "matrix_gflops": 200.0, "peak_memory_bytes": {"parley": 4e9, "trl": 6e9}, "seconds": 1,
        },
        "train": training,
        "serve": {
            "speeds": {
                "merged_times_adapter": 2.0,
                "tokens_per_s": {"real-base": 10.0, "bitext-adapter": 5.0, "bitext-merged": 10.0},
            },
            "parity": {"bitext-adapter": None, "bitext-merged": {"served": {"agreement": 0.99, "tokens": 300}}},
            "seconds": 1,
        },
        "score": {"scores": scores, "stopped_share": 1.0, "seconds": 1},
        "dpo": {"pairs": 60, "ranked_right": 0.9, "margin": 1.2, "seconds": 60},
    }  # fmt: skip
    return summarise(stages)


def test_a_result_has_its_keys_and_names_the_goals_it_missed() -> None:
    figures = result()
    keys = {
        "train_tokens_per_s", "times_trl", "share_of_limit", "merged_times_adapter", "stopped_share", "topics_base",
        "topics_tuned", "plan_speed_error", "plan_memory_error",
    }  # fmt: skip
    assert keys <= set(json.loads(json.dumps(figures)))
    assert (figures["plan_speed_error"], figures["plan_memory_error"]) == (0.2, 0.25)
    assert (figures["topics_times_base"], figures["topics_apart"]) == (4.0, True)
    (missed,) = missed_goals(figures)
    assert missed == "training, share of the matrix products' speed: 0.50 (≥ 0.65)"
    assert "| training, tokens/s | 100; TRL's plain script 50 | 2.00 times |" in table(figures)


def test_a_judge_is_measured_in_both_orders_on_pairs_with_a_better_answer() -> None:
    pairs = [
        {"question": "Where?", "answer_a": "Here it is.", "answer_b": "No.", "verdict": "A", "intent": "where"},
        {"question": "When?", "answer_a": "No.", "answer_b": "Tomorrow.", "verdict": "B", "intent": "when"},
        {"question": "Why?", "answer_a": "So.", "answer_b": "So.", "verdict": "tie", "intent": "why"},
    ]
    longer = judges.measure(pairs, lambda question, first, second: (len(first), len(second)))
    assert (longer.pairs, longer.right, longer.right_alone, longer.flipped) == (2, 1.0, 1.0, 0.0)
    first_wins = judges.measure(pairs, lambda question, first, second: (1.0, 0.0))
    assert (first_wins.right_alone, first_wins.flipped) == (0.5, 1.0)


def test_without_a_base_the_judges_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert judges.main(["--base", str(tmp_path)]) == 2
    assert "there is no base" in capsys.readouterr().err


def test_ties_of_a_judge_count_half_and_its_certainty_is_calibrated() -> None:
    pairs = [
        {"question": str(place), "answer_a": "a", "answer_b": "b", "verdict": "A", "intent": str(place), "fault": "cut"}
        for place in range(8)
    ]
    tied = judges.measure(pairs, lambda question, first, second: (0.5, 0.5))
    assert (tied.right, tied.right_alone, tied.brier, tied.by_fault) == (0.5, 0.5, 0.25, {"cut": 0.5})
    assert judges.calibrated_brier([2.0] * 8) < 0.01
    assert judges.calibrated_brier([-2.0] * 8) == 0.25  # a judge that is always wrong is not used
    assert judges.calibrated_brier([1.0, 1.0, -1.0, -1.0] * 2) == pytest.approx(0.25, abs=0.01)


def test_pairs_of_peoples_answers_have_one_fault_each() -> None:
    text = "It is easy. Open the page. Choose your order. Press the button. We are glad to help you with all of this. "
    requests = [bitext.Request(f"Question {place}?", f"{text}{place}" * 2, f"intent {place}") for place in range(6)]
    pairs = support_pairs(requests, 6)
    assert [pair["fault"] for pair in pairs] == [*FAULTS, *FAULTS]
    for pair in pairs:
        better, other = (pair["answer_a"], pair["answer_b"])[:: 1 if pair["verdict"] == "A" else -1]
        assert better in {request.answer for request in requests}
        if pair["fault"] == "cut":
            assert better.startswith(other)
        elif pair["fault"] == "shuffled":
            assert (sorted(better.split()), better != other) == (sorted(other.split()), True)
        else:
            assert other in {request.answer for request in requests} - {better}
