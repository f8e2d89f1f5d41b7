"""Which answer is better, and how sure are we: prompts, blind battles, judges, ratings, verdicts, scorers.

This index is resolved lazily: `from evals import next_battle` loads only `evals.arena`. The room imports `models`
and no other room; the statistics libraries are loaded by the modules that compute, when they compute.

    prompts      what is asked                      arena        blind battles and votes
    rating       Bradley–Terry, pure                leaderboard  votes in, a table with intervals out
    verdict      one model against another          judging      a model as judge, both orders
    scorers      small functions of one answer      scoring      a scorer over many answers
    calibrating  a judge against people's votes     rubric       what a judge is to look at, as Markdown
    ppi          few votes and many verdicts        grading      a model as judge, one answer alone
    preferences  votes as preference pairs          jobs         what the worker runs
    tasks        samples, a name, a content hash    task_rows    a task from files, data sets, prompts, runs
    runner       many questions, each once          evaluations  a task over models, stored
    summaries    means and differences              contamination  what of a task the training holds
    style        ratings with style held equal      voters       how far voters agree
    robustness   votes that would turn it           vote_imports votes from other tools
    judged_tasks a judge over an evaluation         judge_scorer a judge as a scorer

Three functions have their module's name, so they are imported from it: `from evals.prompts import prompts`,
`from evals.leaderboard import leaderboard`, `from evals.verdict import verdict`.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "Prompt": "prompts", "add_prompts": "prompts",
    "Battle": "arena", "Reveal": "arena", "next_battle": "arena", "cast_vote": "arena", "votes_by": "arena",
    "Votes": "votes", "read_votes": "votes",
    "Rating": "rating", "rate": "rating",
    "Leaderboard": "leaderboard", "RatedModel": "leaderboard",
    "Verdict": "verdict", "compare": "verdict",
    "JudgeReport": "report", "judge_models": "judging", "Grades": "grading", "grade_models": "grading",
    "Calibration": "calibrating", "calibrate": "calibrating", "find_rubric": "rubric", "shipped_rubrics": "rubric",
    "Powered": "ppi", "powered_mean": "ppi",
    "Sample": "scorers", "Scorer": "scorers",
    "exact": "scorers", "partial": "scorers", "topic_coverage": "scorers", "length": "scorers",
    "repetition": "scorers",
    "ScoreSummary": "scoring", "score": "scoring", "paired_difference": "scoring",
    "export_preferences": "preferences", "import_votes": "vote_imports", "vote_rows": "vote_exports",
    "Agreement": "voters", "StyleControl": "style", "Turning": "robustness", "turn_rating": "robustness",
    "CategoryRate": "categories", "category_rates": "categories",
    "run_judge_job": "jobs", "run_evaluation_job": "jobs",
    "Task": "tasks", "TaskSample": "tasks", "make_task": "tasks", "open_task": "task_rows",
    "NamedScorer": "scorers_named", "named_scorer": "scorers_named", "Run": "runner", "ask_all": "runner",
    "Evaluation": "evaluations", "run_task": "evaluations", "load_evaluation": "evaluations",
    "evaluate_served": "served", "Overview": "summaries", "overview": "summaries", "Diff": "summaries",
    "diff": "summaries", "write_report": "html_report",
    "judge_evaluation": "judged_tasks", "write_judge_report": "judge_html",
    "GroupVerdict": "report_groups", "by_group": "report_groups",
    "Contamination": "contamination", "read_taught": "contamination",
}  # fmt: skip

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'evals' has no attribute {name!r}")
    return getattr(import_module(f"evals.{_HOMES[name]}"), name)
