"""All of MT-Bench: 80 two-turn questions, two served models, a served judge, both orders, a report by category.

    python -m bench.mtbench [--questions 80] [--models a,b] [--judge j] [--rubric general] [--max-tokens 256]
                            [--home FOLDER] [--out FOLDER] [--json]

It starts `parley demo` over an empty home (or over `--home`), asks both models each question through the gateway in
conversations of their own, grades each answer, and has the judge compare the answers in both orders. Answers that do
not fit a model's context and verdicts that cannot be parsed count as nulls, by reason. The demo's models know only
support questions, and its judge is a toy: the figures show that the whole procedure runs, not the models' quality.
Questions and reference answers: Zheng et al. 2023, arXiv:2306.05685. Exit status 2 without them.
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

from bench.progress import print_progress
from evals.tasks.task import Task
from evals.tasks.task_rows import make_task
from models.errors import ParleyError

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data" / "mtbench"
QUESTIONS = FOLDER / "mt_bench_question.jsonl"
REFERENCES = FOLDER / "mt_bench_reference_answer_gpt-4.jsonl"
MODELS, JUDGE, RUBRIC = "support-concise,support-friendly", "support-judge", "general"
_READY_S = 300.0


def read_task(count: int | None = None) -> Task:
    """`count` questions as a task, balanced over the categories, with reference answers where they exist."""
    rows = [json.loads(line) for line in QUESTIONS.read_text("utf-8").splitlines() if line.strip()]
    answers = [json.loads(line) for line in REFERENCES.read_text("utf-8").splitlines() if line.strip()]
    references = {row["question_id"]: row["choices"][0]["turns"] for row in answers}
    if count is not None:
        place: dict[str, int] = {}
        for row in rows:
            row["place"] = place[row["category"]] = place.get(row["category"], 0) + 1
        rows = sorted(sorted(rows, key=lambda row: row.pop("place"))[:count], key=lambda row: row["question_id"])
    questions = [
        {"id": row["question_id"], "turns": row["turns"], "category": row["category"]}
        | ({"expected": references[row["question_id"]]} if row["question_id"] in references else {})
        for row in rows
    ]
    return make_task("mt-bench", QUESTIONS.name, [(f"question {row['id']}", row) for row in questions])


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark; returns the exit status: 2 where the questions are not there."""
    options = parse_arguments(arguments)
    if not QUESTIONS.is_file():
        print("bench.mtbench: its questions are not here: put them in ../shared/data/mtbench.", file=sys.stderr)
        return 2
    # On SIGTERM it still stops the demo it has started.
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


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.mtbench", description=__doc__.splitlines()[0])
    parser.add_argument("--questions", type=int, default=80, help="number of questions, balanced over the categories")
    parser.add_argument("--models", default=MODELS, help="two served models; the second is compared with the first")
    parser.add_argument("--judge", default=JUDGE)
    parser.add_argument("--rubric", default=RUBRIC)
    parser.add_argument("--max-tokens", type=int, default=256, help="maximum tokens per answer")
    parser.add_argument("--home", type=Path, default=None, help="keep the home here; stored answers are reused")
    parser.add_argument("--out", type=Path, default=None, help="write answers.html and judged.html here")
    parser.add_argument("--port", type=int, default=8790, help="the gateway's port")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace, home: Path) -> dict[str, Any]:
    """Starts the demo, runs the benchmark, stops the demo; returns the JSON object."""
    from models.database import open_database
    from models.settings.settings import load_settings
    from serve import start

    settings = load_settings(home=home, port=options.port)
    began = time.perf_counter()
    print_progress("starting the demo …")
    with start(settings, command="demo", page=False, worker=False) as running:
        running.wait_ready(_READY_S)
        ready = time.perf_counter() - began
        database = open_database(settings)
        try:
            return {"benchmark": "mtbench", "ready_s": round(ready, 1)} | measure(
                options, settings, database, read_task(options.questions)
            )
        finally:
            database.dispose()


def measure(options: argparse.Namespace, settings: Any, database: Any, task: Task) -> dict[str, Any]:
    """Asks, grades and compares with a running Parley; returns the rest of the JSON object."""
    from evals.judges.pairwise_evaluation import judge_evaluation
    from evals.judges.report_groups import report_json
    from evals.judges.request import JudgeRequest
    from evals.judges.rubric import find_rubric
    from evals.reports.evaluation_html import write_report
    from evals.reports.judge_html import write_judge_report
    from evals.served_runs import evaluate_served, judge_served
    from evals.tasks.evaluations import TaskRun, load_evaluation
    from evals.tasks.summaries import against_first, diff, overview
    from evals.tasks.summary_json import overview_json

    first, second = options.models.split(",")
    scorers = ["words", "repetition", f"judge:{options.judge}@{options.rubric}"]
    parameters = {"temperature": 0.0, "max_tokens": options.max_tokens}
    print_progress(f"asking and grading {len(task.samples)} turns …")
    began = time.perf_counter()
    made = evaluate_served(settings, database, TaskRun(task, [first, second], parameters=parameters), scorers)
    graded = time.perf_counter()
    evaluation = load_evaluation(database, made.id)
    print_progress("comparing in both orders …")
    request = JudgeRequest(options.judge, (first, second), rubric=find_rubric(options.rubric, database))
    report = judge_served(settings, database, partial(judge_evaluation, evaluation=evaluation), request)
    compared = time.perf_counter()
    summary, differences = overview(evaluation), diff(against_first(evaluation))
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        write_report(options.out / "answers.html", evaluation, summary, differences)
        write_judge_report(options.out / "judged.html", report)
    evaluated = overview_json(evaluation, summary, differences)
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
    """Prints the table."""
    for row in result["answers"]:
        print(f"{row['model']}: {row['answered']} answered, {row['failed']} failed, {row['cut']} cut at max_tokens")
    print(f"\n{'':16} {result['models'][1]} wins, 95 %   judged  null  order decided")
    for group in result["groups"]:
        rate = group["rate"]
        share = f"{rate['value']:.0%} ({rate['low']:.0%} to {rate['high']:.0%})" if rate else "–"
        print(f"{group['name']:16} {share:>24} {group['judged']:>8} {group['nulls']:>5} {group['flips']:>8}")
    for why, count in result["nulls"].items():
        print(f"null {count}: {why}")
    print(f"\n{result['summary']}")
    print(f"asking {result['asking_s']} s, grading {result['grading_s']} s, comparing {result['comparing_s']} s")


if __name__ == "__main__":
    sys.exit(main())
