"""Evaluation of models: prompts, blind battles, ratings, verdicts, scorers, judges.

The index below loads lazily: `from evals import next_battle` imports `evals.campaigns.battles` and nothing else. Each
folder imports only the folders above it in this list:

    votes/       prompts, votes, vote import and export, preference pairs
    scorers/     functions that score one answer, their names, and means with intervals
    tasks/       samples, the runner that asks models, stored evaluations, comparisons, contamination
    ratings/     Bradley–Terry, verdicts, the leaderboard, style control, voter agreement, robustness
    recordings/  answers that outlive their model, and `MODEL@recorded`
    campaigns/   campaigns: invites, raters, blind battles, votes, leaks, preparation, reports, checked exports
    judges/      models as judges of pairs or single answers, rubrics, canaries, calibration, PPI
    reports/     HTML files, interval charts, terminal tables
    graders/     OpenAI's graders: rules, metrics, judges, programs in a sandbox, formulas over them
    eval_runs/   the evals API: evals, runs as jobs, output items, imported dumps
    jobs         what the worker runs; served_runs runs the same in the foreground
    commands/    the Typer commands

Three functions share their module's name, so import them from the module: `from evals.votes.prompts import prompts`,
`from evals.ratings.leaderboard import leaderboard`, `from evals.ratings.verdict import verdict`.
"""

from importlib import import_module
from typing import Any

_MODULES = {
    "votes.prompts": ("Prompt", "add_prompts"),
    "votes.votes": ("Votes", "read_votes"),
    "votes.preference_pairs": ("export_preferences",),
    "votes.vote_import": ("import_votes",),
    "votes.vote_export": ("vote_rows", "export_votes", "VoteExport"),
    "scorers.sample": ("Sample", "Scorer"),
    "scorers.text_match": ("exact", "partial", "topic_coverage", "length", "repetition"),
    "scorers.score_summary": ("ScoreSummary", "score", "paired_difference"),
    "scorers.catalog": ("NamedScorer", "named_scorer"),
    "tasks.task": ("Task", "TaskSample"),
    "tasks.task_rows": ("make_task",),
    "tasks.task_sources": ("open_task",),
    "tasks.runner": ("Run", "ask_all"),
    "tasks.evaluations": ("Evaluation", "run_task", "load_evaluation"),
    "tasks.summaries": ("Overview", "overview", "Diff", "diff"),
    "tasks.contamination": ("Contamination", "read_taught"),
    "ratings.bradley_terry": ("Rating", "rate"),
    "ratings.leaderboard": ("Leaderboard", "RatedModel"),
    "ratings.verdict": ("PlannedLook", "Verdict", "compare", "planned_verdict"),
    "ratings.planned_power": ("CampaignPower", "CampaignSize", "campaign_power"),
    "ratings.voter_agreement": ("Agreement",),
    "ratings.style_control": ("StyleControl",),
    "ratings.robustness": ("Turning", "turn_rating"),
    "ratings.category_win_rates": ("CategoryRate", "category_rates"),
    "recordings.recorder": ("record",),
    "recordings.recorded_models": ("RecordedCompleter",),
    "campaigns.campaign": ("Campaign", "NewCampaign", "PromptSource"),
    "campaigns.lifecycle": ("create_campaign", "open_campaign", "close_campaign", "list_campaigns", "load_campaign"),
    "campaigns.battles": ("Battle", "next_battle"),
    "campaigns.ballots": ("Reveal", "cast_vote", "votes_by"),
    "campaigns.bundle": ("write_bundle", "check_bundle"),
    "judges.report": ("JudgeReport",),
    "judges.report_groups": ("GroupVerdict", "by_group"),
    "judges.pairwise": ("judge_models",),
    "judges.pairwise_evaluation": ("judge_evaluation",),
    "judges.pointwise": ("Grades", "grade_models"),
    "judges.calibration": ("Calibration", "CalibrationRequest", "calibrate"),
    "judges.rubric": ("find_rubric", "shipped_rubrics"),
    "judges.ppi": ("Powered", "powered_mean"),
    "reports.evaluation_html": ("write_report",),
    "reports.judge_html": ("write_judge_report",),
    "served_runs": ("evaluate_served",),
    "jobs": ("run_judge_job", "run_evaluation_job"),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'evals' has no attribute {name!r}")
    return getattr(import_module(f"evals.{_HOMES[name]}"), name)
