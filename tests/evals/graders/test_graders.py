"""Graders: metrics against their libraries' documented values, formulas, templates, programs in the sandbox."""

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from evals.graders import sandbox
from evals.graders.formulas import evaluate_formula
from evals.graders.grade import Case, GradingContext
from evals.graders.grading import check_grader, grade_all
from evals.graders.sandbox import Program, SandboxLimits, run_program
from evals.graders.templates import TemplateError, render, sample_values
from evals.graders.text_metrics import text_similarity
from evals.tasks.answer_cache import Outcome
from models.errors import Invalid
from models.jobs.worker import JobCancelled

GUIDE = "It is a guide to action which ensures that the military always obeys the commands of the party"
TROOPS = "It is to insure the troops forever hearing the activity guidebook that party direct"
REFERENCE = "It is a guide to action that ensures that the military will forever heed Party commands"
FOX, DOG = "The quick brown fox jumps over the lazy dog", "The quick brown dog jumps on the log."


async def no_model(model: str, conversations: Sequence[Any], parameters: Mapping[str, Any]) -> Sequence[Outcome]:
    raise AssertionError("no grader here asks a model")


CONTEXT = GradingContext(no_model, lambda texts: [[float(len(text)), 1.0] for text in texts])


@pytest.mark.parametrize(
    ("metric", "text", "reference", "value"),
    [
        # NLTK 3.10: doctests of gleu_score and meteor_score; this METEOR's match needs no synonym.
        ("gleu", GUIDE, REFERENCE, 0.4393),
        ("gleu", TROOPS, REFERENCE, 0.1206),
        ("gleu", "the the the the the the the", "the cat is on the mat", 0.0909),
        ("meteor", GUIDE, REFERENCE, 0.6944),
        ("meteor", "non matching hypothesis", "this is a cat", 0.0),
        # rouge-score 0.1.2: README.
        ("rouge_1", DOG, FOX, 0.7058),
        ("rouge_l", DOG, FOX, 0.5882),
        # The bigrams in common are "the quick" and "quick brown", of 8 and 7.
        ("rouge_2", DOG, FOX, 0.2666),
        ("rouge_5", DOG, FOX, 0.0),
        # RapidFuzz 3: README, `fuzz.ratio`.
        ("fuzzy_match", "this is a test", "this is a test!", 0.9655),
        # sacrebleu 2.6: README, the first sentence, which equals its reference.
        ("bleu", "The dog bit the man.", "The dog bit the man.", 1.0),
    ],
)
def test_metrics_have_the_values_of_their_documentation(metric: str, text: str, reference: str, value: float) -> None:
    assert math.floor(text_similarity(metric, text, reference) * 10_000 + 1e-6) / 10_000 == value


def test_a_formula_is_arithmetic_over_scores_and_nothing_else() -> None:
    scores = {"a": 0.5, "b": 2.0}
    assert evaluate_formula("0.5 * a + max(b, 1) ^ 2 / 4", scores) == 1.25
    assert evaluate_formula("-abs(a - b) + exp(0) + sqrt(b*2)", scores) == 1.5
    wrong = [
        "a +", "c", "a.real", "__import__('os')", "[a]", "a / 0", "9 ^ 9 ^ 9 ^ 9", "min", "a if b else b", "log(-1)",
        "'a' * 9", "lambda: a", "max(*[a])", "True",
    ]  # fmt: skip
    for formula in wrong:
        with pytest.raises(Invalid, match="calculate_output is not valid"):
            evaluate_formula(formula, scores)


def test_templates_insert_values_and_name_what_is_missing() -> None:
    values = {"item": {"q": "why?", "n": [{"x": 1.5}], "none": None}, "sample": sample_values('{"a": {"b": [1, "é"]}}')}
    assert render("{{item.q}} {{ item.n[0].x }} {{item.n}} {{item.none}}", values) == 'why? 1.5 [{"x": 1.5}] null'
    assert render("{{sample.output_json.a.b}} {{sample.output_json.a.b[1]}} {x}", values) == '[1, "é"] é {x}'
    with pytest.raises(TemplateError, match=r"item\.q\.z has no value"):
        render("{{item.q.z}}", values)
    with pytest.raises(TemplateError) as caught:
        render("{{sample.output_json.a}}", {"item": {}, "sample": sample_values("no")})
    assert caught.value.code == "sample_parse_error"


def test_checks_and_multi_graders_grade_each_case() -> None:
    def check(operation: str) -> dict[str, Any]:
        return {"type": "string_check", "name": operation, "operation": operation, "input": "{{sample.output_text}}",
                "reference": "{{item.r}}"}  # fmt: skip

    cases = [Case({"r": "Yes"}, sample_values(text)) for text in ("Yes", "oh Yes", "yes", "no")]
    cases.append(Case({}, sample_values("x")))
    passed = {
        name: [grade.passed for grade in asyncio.run(grade_all(check(name), cases, CONTEXT))]
        for name in ("eq", "ne", "like", "ilike")
    }
    assert passed == {
        "eq": [True, False, False, False, False],
        "ne": [False, True, True, True, False],
        "like": [True, True, False, False, False],
        "ilike": [True, True, True, False, False],
    }
    close = check("eq") | {"type": "text_similarity", "evaluation_metric": "cosine", "pass_threshold": 0.99}
    multi = {
        "type": "multi",
        "name": "m",
        "graders": {"a": check("ilike"), "b": close},
        "calculate_output": "a*0.9+b/10",
    }
    check_grader(multi, unsandboxed=False)
    grades = asyncio.run(grade_all(multi, cases, CONTEXT))
    assert grades[0].score == pytest.approx(1.0)
    assert grades[0].parts == {"a": 1.0, "b": pytest.approx(1.0)}
    assert grades[3].score < 0.5
    assert (grades[4].error, grades[4].kind) == ("a: item.r has no value.", "invalid_variable_error")
    with pytest.raises(Invalid, match="'c' is not one of its graders"):
        check_grader(multi | {"calculate_output": "a + c"}, unsandboxed=False)


PROGRAM = """
import os, socket, subprocess, time
state = []
def grade(sample, item):
    act = item["act"]
    if act == "state":
        state.append(1)
        return len(state)
    if act == "network":
        socket.create_connection(("127.0.0.1", item["port"]), 1)
    if act == "read":
        return float(os.path.exists(item["path"]))
    if act == "write":
        open("/usr/x", "w")
    if act == "hang":
        subprocess.Popen(["sleep", "1000.125"], start_new_session=True)
        while True: pass
    if act == "memory":
        return len(bytearray(2**30))
    if act == "print":
        print("x" * 10**6)
        return 0.5
    if act == "processes":
        deadline = time.monotonic() + 0.8
        while (count := sum(name.isdigit() for name in os.listdir("/proc"))) > 3 and time.monotonic() < deadline:
            time.sleep(0.01)  # a killed process takes a moment
        return count
    if act == "numpy":
        import numpy
        return numpy.mean([1, 2])
    if act == "break":
        os.kill(os.getppid(), 9)
    return {"not": "a number"}
"""


@pytest.mark.long
def test_a_program_has_no_network_no_files_and_limits(tmp_path: Path) -> None:
    if not sandbox._has_bubblewrap():
        pytest.skip("bubblewrap is not installed, or may not create namespaces")
    secret = tmp_path / "secret"
    secret.write_text("x")
    acts: list[dict[str, Any]] = [
        {"act": "state"}, {"act": "state"}, {"act": "network", "port": 1}, {"act": "read", "path": str(secret)},
        {"act": "write"}, {"act": "memory"}, {"act": "print"}, {"act": "hang"}, {"act": "processes"}, {"act": "numpy"},
        {"act": "break"}, {"act": "other"},
    ]  # fmt: skip
    cases = [{"sample": {}, "item": item} for item in acts]
    limits = SandboxLimits(seconds=1.0, memory=768 * 2**20)
    began = time.monotonic()
    results = asyncio.run(run_program(Program(PROGRAM, limits=limits), cases))
    assert time.monotonic() - began < 30
    assert [result.score for result in results[:2]] == [1.0, 1.0], "no item sees another's state"
    assert [(result.error or str(result.score)).partition(":")[0] for result in results[2:]] == [
        "ConnectionRefusedError", "0.0", "OSError", "MemoryError", "0.5", "TimeoutError",
        "3.0",  # bubblewrap, the program, and the item's: what hung left nothing
        "1.5", "The grader's process ended without a result.", "TypeError",
    ]  # fmt: skip
    assert not results[-2].runtime
    # A program that writes its results itself, and one that starts nothing.
    forged = "import os, glob\n" + (
        "def grade(sample, item):\n    for n in range(3, 20):\n        try: os.write(n, item['line'].encode())\n"
        "        except OSError: pass\n    return 1\n"
    )
    lines = [{"sample": {}, "item": {"line": line}} for line in ("[1]\n", '{"score": "x"}\n', '{"score": 1e999}\n')]
    odd = asyncio.run(run_program(Program(forged, limits=limits), lines))
    assert all(result.score is None or math.isfinite(result.score) for result in odd)
    started = time.monotonic()
    dead = asyncio.run(run_program(Program("import os; os._exit(1)", limits=limits), cases))
    assert [result.runtime for result in dead] == [False] * len(cases)
    assert time.monotonic() - started < 10

    def tick() -> None:
        raise JobCancelled("job")

    hanging = Program("while True: pass", limits=SandboxLimits(), tick=tick)
    with pytest.raises(JobCancelled):
        asyncio.run(run_program(hanging, cases))
    running = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not any(b"1000.125" in line for line in running)


def test_without_bubblewrap_a_program_is_refused_unless_an_owner_allows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_has_bubblewrap", lambda: False)
    grader = {"type": "python", "name": "p", "source": "def grade(sample, item):\n    return item['x']"}
    with pytest.raises(Invalid, match="apt-get install bubblewrap") as caught:
        check_grader(grader, unsandboxed=False)
    assert caught.value.code == "python_grader_server_error"
    context = GradingContext(no_model, CONTEXT.embed, unsandboxed=True)
    good, bad = asyncio.run(grade_all(grader, [Case({"x": 0.75}, {}), Case({}, {})], context))
    assert (good.score, good.passed) == (0.75, True)
    assert (bad.error, bad.kind) == ("KeyError: 'x'", "python_grader_runtime_error")
