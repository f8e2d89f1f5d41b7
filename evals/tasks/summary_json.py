"""An evaluation's statistics and comparisons as plain JSON values, for `--json`."""

from typing import Any

from evals.tasks.evaluations import Evaluation
from evals.tasks.summaries import Diff, Overview


def overview_json(evaluation: Evaluation, overview: Overview, compared: Diff | None = None) -> dict[str, Any]:
    """The evaluation without its answers, as plain JSON values."""
    return {
        "id": evaluation.id,
        "task": evaluation.task,
        "task_hash": evaluation.task_hash,
        "source": evaluation.source,
        "samples": len(evaluation.samples),
        "left_out": evaluation.left_out,
        "models": list(evaluation.models),
        "parameters": dict(evaluation.parameters),
        "notes": list(evaluation.notes),
        "created": evaluation.created.isoformat(),
        "finished": evaluation.finished.isoformat() if evaluation.finished else None,
        "scorers": [vars(scorer) for scorer in evaluation.scorers],
        "scores": [
            {"model": row.model, "scorer": row.scorer, "category": row.category} | row.summary.to_json()
            for row in overview.scores
        ],
        "answers": [vars(facts) | {"errors": dict(facts.errors)} for facts in overview.facts],
        "scorer_errors": [
            {"scorer": name, "error": error, "samples": count} for name, error, count in overview.scorer_errors
        ],
        "diff": diff_json(compared) if compared else None,
    }


def diff_json(compared: Diff) -> dict[str, Any]:
    """The comparisons and the regressions as plain JSON values."""
    return {
        "comparisons": compared.comparisons,
        "differences": [
            {
                "model_a": row.model_a,
                "model_b": row.model_b,
                "scorer": row.scorer,
                "category": row.category,
                "finding": row.finding,
                **row.summary.to_json(),
                "wide_low": row.wide.low,
                "wide_high": row.wide.high,
            }
            for row in compared.differences
        ],
        "improvements": compared.improvements,
        "regressions": [
            {
                "model_a": row.model_a,
                "model_b": row.model_b,
                "scorer": row.scorer,
                "sample": row.sample.to_json(),
                "score_a": row.score_a,
                "score_b": row.score_b,
                "answer_a": row.text_a,
                "answer_b": row.text_b,
            }
            for row in compared.regressions
        ],
    }
