"""MT-Bench whole: 80 questions of two turns, two served models, a served judge, both orders, a report by category.

    python -m bench.mtbench [--questions 80] [--models a,b] [--judge j] [--rubric general] [--max-tokens 256]
                            [--home FOLDER] [--out FOLDER] [--json]

It starts `parley demo` over an empty home (or over `--home`), asks both models each question through the gateway, each
in its own conversation, grades every answer alone and has the judge compare the answers in both orders. What does not
fit a model's context, or cannot be read, is a null: counted, by reason. The demo's models know support questions and
nothing else, and its judge is a toy: the figures show that the whole of it runs, and no model's worth. Questions and
reference answers: Zheng et al. 2023, arXiv:2306.05685. Without them it says so and ends with status 2.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from bench.asking import say
from evals.tasks.task import Task
from evals.tasks.task_rows import make_task
from models.errors import ParleyError

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data" / "mtbench"
QUESTIONS = FOLDER / "mt_bench_question.jsonl"
REFERENCES = FOLDER / "mt_bench_reference_answer_gpt-4.jsonl"
MODELS, JUDGE, RUBRIC = "support-concise,support-friendly", "support-judge", "general"
_READY_S = 300.0


def read_task(count: int | None = None) -> Task:
    """The questions as a task, with the reference answers of those that have some; of each category as many."""
    rows = [json.loads(line) for line in QUESTIONS.read_text("utf-8").splitlines() if line.strip()]
    answers = [json.loads(line) for line in REFERENCES.read_text("utf-8").splitlines() if line.strip()]
    references = {row["question_id"]: row["choices"][0]["turns"] for row in answers}
    if count is not None:
        place: dict[str, int] = {}
        for row in rows:
            row["place"] = place[row["category"]] = place.get(row["category"], 0) + 1
        rows = sorted(sorted(rows, key=lambda row: row.pop("place"))[:count], key=lambda row: row["question_id"])
    found = [
        {"id": row["question_id"], "turns": row["turns"], "category": row["category"]}
        | ({"expected": references[row["question_id"]]} if row["question_id"] in references else {})
        for row in rows
    ]
    return make_task("mt-bench", QUESTIONS.name, [(f"question {row['id']}", row) for row in found])


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark; returns the exit status: 2 where the questions are not there."""
    options = parsed(arguments)
    if not QUESTIONS.is_file():
        print("bench.mtbench: its questions are not here (../shared/data/mtbench).", file=sys.stderr)
        return 2
    # Told to stop, it stops the demo that it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with tempfile.TemporaryDirectory(prefix="parley-bench-") as temporary:
            result = run(options, options.home or Path(temporary))
    except ParleyError as error:
        print(f"bench.mtbench: {error}", file=sys.stderr)
        return error.exit_code
    show(result)
    if options.json:
        print(json.dumps(result))
    return 0


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(prog="python -m bench.mtbench", description=__doc__.splitlines()[0])
    parser.add_argument("--questions", type=int, default=80, help="how many, the categories in turn")
    parser.add_argument("--models", default=MODELS, help="two served models; the second is held against the first")
    parser.add_argument("--judge", default=JUDGE)
    parser.add_argument("--rubric", default=RUBRIC)
    parser.add_argument("--max-tokens", type=int, default=256, help="the longest answer")
    parser.add_argument(
        "--home", type=Path, default=None, help="keep everything here; what was asked is not asked again"
    )
    parser.add_argument("--out", type=Path, default=None, help="write answers.html and judged.html here")
    parser.add_argument("--port", type=int, default=8790, help="the gateway's port while it serves")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace, home: Path) -> dict[str, Any]:
    """The demo is started, asked and judged, and stopped; returns the JSON object."""
    from models.database import open_database
    from models.settings import load_settings
    from serve import start

    settings = load_settings(home=home, port=options.port)
    began = time.perf_counter()
    say("starting the demo …")
    with start(settings, command="demo", page=False, worker=False) as running:
        running.wait_ready(_READY_S)
        ready = time.perf_counter() - began
        database = open_database(settings)
        try:
            return {"benchmark": "mtbench", "ready_s": round(ready, 1)} | measured(
                options, settings, database, read_task(options.questions)
            )
        finally:
            database.dispose()


def measured(options: argparse.Namespace, settings: Any, database: Any, task: Task) -> dict[str, Any]:
    """Asks, grades and compares at a Parley that runs; returns the rest of the JSON object."""
    from evals.judges.pairwise_evaluation import judge_evaluation
    from evals.judges.report_groups import report_json
    from evals.judges.request import JudgeRequest
    from evals.judges.rubric import find_rubric
    from evals.reports.evaluation_html import write_report
    from evals.reports.judge_html import write_judge_report
    from evals.served_runs import evaluate_served, judge_served
    from evals.tasks.evaluations import TaskRun, load_evaluation
    from evals.tasks.summaries import against_first, diff, overview, overview_json

    first, second = options.models.split(",")
    scorers = ["words", "repetition", f"judge:{options.judge}@{options.rubric}"]
    parameters = {"temperature": 0.0, "max_tokens": options.max_tokens}
    say(f"asking and grading {len(task.samples)} turns …")
    began = time.perf_counter()
    made = evaluate_served(settings, database, TaskRun(task, [first, second], parameters=parameters), scorers)
    graded = time.perf_counter()
    evaluation = load_evaluation(database, made.id)
    say("comparing in both orders …")
    request = JudgeRequest(options.judge, (first, second), rubric=find_rubric(options.rubric, database))
    report = judge_served(settings, database, partial(judge_evaluation, evaluation=evaluation), request)
    compared = time.perf_counter()
    found, differences = overview(evaluation), diff(against_first(evaluation))
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        write_report(options.out / "answers.html", evaluation, found, differences)
        write_judge_report(options.out / "judged.html", report)
    evaluated = overview_json(evaluation, found, differences)
    judged = report_json(report)
    return {
        "questions": sum(sample.turn == 1 for sample in task.samples),
        "turns": len(task.samples),
        "models": [first, second],
        "judge": options.judge,
        "asking_s": round(made.run.seconds, 1),
        "asked": made.run.asked,
        "grading_s": round(graded - began - made.run.seconds, 1),
        "comparing_s": round(compared - graded, 1),
        "answers": evaluated["answers"],
        "grades": [row for row in evaluated["scores"] if row["scorer"].startswith("judge:")],
        "scorer_errors": evaluated["scorer_errors"],
        "rows": len(report.rows),
        "judged": report.judged,
        "flip_rate": report.flip_rate,
        "trusted": report.trusted,
        "summary": report.summary,
        "groups": judged["groups"],
        "nulls": judged["nulls"],
        "load": os.getloadavg()[0],
    }


def show(result: dict[str, Any]) -> None:
    """The figures as a table."""
    for one in result["answers"]:
        print(f"{one['model']}: {one['answered']} answered, {one['failed']} failed, {one['cut']} cut at max_tokens")
    print(f"\n{'':16} {result['models'][1]} wins, 95 %   judged  null  order decided")
    for group in result["groups"]:
        rate = group["rate"]
        told = f"{rate['value']:.0%} ({rate['low']:.0%} to {rate['high']:.0%})" if rate else "–"
        print(f"{group['name']:16} {told:>24} {group['judged']:>8} {group['nulls']:>5} {group['flips']:>8}")
    for why, count in result["nulls"].items():
        print(f"null {count}: {why}")
    print(f"\n{result['summary']}")
    print(f"asking {result['asking_s']} s, grading {result['grading_s']} s, comparing {result['comparing_s']} s")


if __name__ == "__main__":
    sys.exit(main())
