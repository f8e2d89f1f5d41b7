"""Which answer is better, and how sure are we: prompts, blind battles, judges, ratings, verdicts, scorers.

This index is resolved lazily: `from evals import next_battle` loads only `evals.votes.arena`. The room imports `models`
and no other room; the statistics libraries are loaded by the modules that compute, when they compute.

    votes/     what people say: prompts, blind battles (arena), votes, imports, exports, preference pairs
    ratings/   Bradley–Terry (rating), verdicts, the leaderboard, style control, voters' agreement, robustness
    judges/    models as judges of pairs (judging) and of one answer (grading), rubrics, calibration, PPI
    tasks/     samples asked of models (runner), stored (evaluations), compared (summaries), contamination
    scorers/   small functions of one answer, by name, and their means over many (scoring)
    jobs       what the worker runs of all this
    intervals  means that know what belongs together

Three functions have their module's name, so they are imported from it: `from evals.votes.prompts import prompts`,
`from evals.ratings.leaderboard import leaderboard`, `from evals.ratings.verdict import verdict`.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "Prompt": "votes.prompts", "add_prompts": "votes.prompts",
    "Battle": "votes.arena", "Reveal": "votes.arena", "next_battle": "votes.arena", "cast_vote": "votes.arena",
    "votes_by": "votes.arena",
    "Votes": "votes.votes", "read_votes": "votes.votes",
    "Rating": "ratings.rating", "rate": "ratings.rating",
    "Leaderboard": "ratings.leaderboard", "RatedModel": "ratings.leaderboard",
    "Verdict": "ratings.verdict", "compare": "ratings.verdict",
    "JudgeReport": "judges.report",
    "judge_models": "judges.judging",
    "Grades": "judges.grading", "grade_models": "judges.grading",
    "Calibration": "judges.calibrating", "calibrate": "judges.calibrating",
    "find_rubric": "judges.rubric", "shipped_rubrics": "judges.rubric",
    "Powered": "judges.ppi", "powered_mean": "judges.ppi",
    "Sample": "scorers.words", "Scorer": "scorers.words", "exact": "scorers.words", "partial": "scorers.words",
    "topic_coverage": "scorers.words", "length": "scorers.words", "repetition": "scorers.words",
    "ScoreSummary": "scorers.scoring", "score": "scorers.scoring", "paired_difference": "scorers.scoring",
    "export_preferences": "votes.preferences",
    "import_votes": "votes.imports",
    "vote_rows": "votes.exports",
    "Agreement": "ratings.voters",
    "StyleControl": "ratings.style",
    "Turning": "ratings.robustness", "turn_rating": "ratings.robustness",
    "CategoryRate": "ratings.categories", "category_rates": "ratings.categories",
    "run_judge_job": "jobs", "run_evaluation_job": "jobs",
    "Task": "tasks.tasks", "TaskSample": "tasks.tasks", "make_task": "tasks.tasks",
    "open_task": "tasks.rows",
    "NamedScorer": "scorers.named", "named_scorer": "scorers.named",
    "Run": "tasks.runner", "ask_all": "tasks.runner",
    "Evaluation": "tasks.evaluations", "run_task": "tasks.evaluations", "load_evaluation": "tasks.evaluations",
    "evaluate_served": "tasks.served",
    "Overview": "tasks.summaries", "overview": "tasks.summaries", "Diff": "tasks.summaries",
    "diff": "tasks.summaries",
    "write_report": "tasks.html_report",
    "judge_evaluation": "judges.judged_tasks",
    "write_judge_report": "judges.html",
    "GroupVerdict": "judges.report_groups", "by_group": "judges.report_groups",
    "Contamination": "tasks.contamination", "read_taught": "tasks.contamination",
}  # fmt: skip

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'evals' has no attribute {name!r}")
    return getattr(import_module(f"evals.{_HOMES[name]}"), name)
