"""The result of a run as one JSON object and one table."""

from collections.abc import Mapping
from typing import Any

from bench.real.training import ADAPTER, BASE, MERGED

# Key, description and value of each goal. Errors must be at most the value, other figures at least.
GOALS: tuple[tuple[str, str, float], ...] = (
    ("times_trl", "training, times TRL's plain script", 1.3),
    ("share_of_limit", "training, share of the matrix products' speed", 0.65),
    ("plan_speed_error", "plan, error of the speed, at most", 0.25),
    ("plan_memory_error", "plan, error of the memory, at most", 0.25),
    ("merged_times_adapter", "serving, merged times adapter", 1.8),
    ("stopped_share", "answers that end by themselves", 0.95),
    ("topics_times_base", "topics covered, times the base's", 3.0),
)


def summarise(stages: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The JSON object of a whole run."""
    plan, train, comparison = stages["plan"], stages["train"], stages["compare"]
    scores, speeds = stages["score"]["scores"], stages["serve"]["speeds"]
    base, tuned = scores["base"]["topics"], scores["tuned"]["topics"]
    result = {
        "benchmark": "real",
        **{name: comparison[name] for name in ("train_tokens_per_s", "times_trl", "share_of_limit", "loss_apart")},
        "merged_times_adapter": speeds["merged_times_adapter"],
        "stopped_share": stages["score"]["stopped_share"],
        "topics_base": _interval(base),
        "topics_tuned": _interval(tuned),
        "topics_people": _interval(scores["people"]["topics"]),
        "topics_times_base": round(tuned["mean"] / base["mean"], 2) if base["mean"] else None,
        "topics_apart": bool(base["high"] is not None and tuned["low"] is not None and tuned["low"] > base["high"]),
        "plan_speed_error": _error(plan["tokens_per_s"], train["tokens_per_s"]),
        "plan_memory_error": _error(plan["memory_bytes"], train["peak_memory_bytes"]),
        "seconds": {name: stage["seconds"] for name, stage in stages.items()},
    }
    return (
        result
        | {"stages": {name: dict(stage) for name, stage in stages.items() if name != "serve"}}
        | {"serving": {"speeds": speeds, "parity": stages["serve"]["parity"]}}
    )


def missed_goals(result: Mapping[str, Any]) -> list[str]:
    """The goals that the run missed, with their values."""
    missed = []
    for key, title, goal in GOALS:
        value, most = result[key], key.endswith("_error")
        if value is None or (value > goal if most else value < goal):
            missed.append(
                f"{title}: {'unknown' if value is None else f'{value:.2f}'} ({'≤' if most else '≥'} {goal:g})"
            )
    return missed


def table(result: Mapping[str, Any]) -> str:
    """The table for RESULTS.md and the README."""
    stages, speeds = result["stages"], result["serving"]["speeds"]["tokens_per_s"]
    train, compare, dpo = stages["train"], stages["compare"], stages["dpo"]
    scores = stages["score"]["scores"]
    peaks = compare["peak_memory_bytes"]
    seconds = result["seconds"]
    rows = [
        ("training conversations", f"{stages['data']['conversations']}", f"{seconds['train'] / 60:.1f} min"),
        ("loss on held-out conversations", f"{train['loss_before']:.2f} → {train['loss_after']:.2f}", ""),
        (
            "training, tokens/s",
            f"{compare['train_tokens_per_s']:.0f}; TRL's plain script {compare['trl_tokens_per_s']:.0f}",
            f"{result['times_trl']:.2f} times",
        ),
        ("loss of each step, largest difference", f"{compare['loss_apart']:.1e}", ""),
        ("training, peak memory", f"{_gb(peaks['parley'])}; TRL {_gb(peaks['trl'])}", ""),
        (
            "share of the matrix products' speed",
            f"{result['share_of_limit']:.2f} of {compare['matrix_gflops']:.0f} billion operations/s",
            "",
        ),
        (
            "`parley data plan`: speed, memory",
            f"{stages['plan']['tokens_per_s']:.0f} tokens/s, {_gb(stages['plan']['memory_bytes'])}",
            f"{result['plan_speed_error']:.0%}, {result['plan_memory_error']:.0%} off",
        ),
        (
            "serving, tokens/s: base, adapter, merged",
            ", ".join(f"{speeds[name]:.0f}" for name in (BASE, ADAPTER, MERGED)),
            f"merged {result['merged_times_adapter']:.2f} times adapter",
        ),
        ("answers that end by themselves", f"{result['stopped_share']:.0%}", ""),
        *((f"{name}: base, tuned, people", _three(scores, name), "") for name in ("topics", "intent", "overlap")),
        (
            f"DPO on {dpo['pairs']} pairs: ranked right",
            f"{dpo['ranked_right']:.0%}, margin {dpo['margin']:.2f} nats",
            f"{seconds['dpo'] / 60:.1f} min",
        ),
        *((f"parity through vLLM, {name}", _parity(result, name), "") for name in (ADAPTER, MERGED)),
        ("the whole run", f"{sum(seconds.values()) / 60:.0f} min", ""),
    ]
    return "\n".join(["| figure | value | |", "|---|---|---|", *(f"| {a} | {b} | {c} |" for a, b, c in rows)])


def _parity(result: Mapping[str, Any], name: str) -> str:
    served = (result["serving"]["parity"].get(name) or {}).get("served")
    return f"{served['agreement']:.1%} of {served['tokens']} tokens" if served else "not compared"


def _three(scores: Mapping[str, Any], name: str) -> str:
    return ", ".join(_with_interval(scores[who][name]) for who in ("base", "tuned", "people"))


def _with_interval(score: Mapping[str, Any]) -> str:
    if score["mean"] is None:
        return "—"
    interval = f" ({score['low']:.2f}–{score['high']:.2f})" if score["low"] is not None else ""
    return f"{score['mean']:.2f}{interval}"


def _interval(score: Mapping[str, Any]) -> dict[str, Any]:
    return {name: score[name] for name in ("mean", "low", "high")}


def _error(planned: float, measured: float) -> float:
    """The plan's error relative to what was measured."""
    return round(abs(planned - measured) / measured, 3)


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB"
