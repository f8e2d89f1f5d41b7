"""Thousands of requests made from the OpenAPI document, good and bad, against a real gateway process.

    python -m bench.schemathesis [--cases 10000] [--seed 1] [--json]

Schemathesis (https://schemathesis.io) makes the requests; most of them name models, files and uploads that are there.
No answer may be a 5xx, and each must have a status, a content type, headers and a body that the document names. The
gateway's log may hold no traceback. Status 1 where anything was found.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from bench.schemathesis_house import House, house

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy
    from schemathesis import APIOperation, Case
    from schemathesis.core.result import Ok

_SHOWN = 20
# Each accepted one is a process of its own that reads the file: a few show all there is to see.
_FEW = frozenset({("POST", "/v1/parley/data/check")})
_ENDS = frozenset({"cancel", "complete"})


@dataclass(frozen=True)
class Found:
    """What a run found: `faults` has a line for each kind, and how often it came; `statuses` counts answers."""

    cases: int
    seconds: float
    operations: int
    statuses: dict[str, int]
    faults: dict[str, int]
    tracebacks: int

    @property
    def good(self) -> bool:
        """Whether nothing was found."""
        return not self.faults and not self.tracebacks


def main(arguments: list[str] | None = None) -> int:
    """Runs it and prints what was found."""
    parser = argparse.ArgumentParser(prog="python -m bench.schemathesis", description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=10_000, help="requests, shared out over the operations")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2, help="processes that make requests")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="parley-cases-") as folder, house(Path(folder) / "home") as running:
        found = run(running, options.cases, options.seed, options.workers)
    print(f"{found.cases} requests to {found.operations} operations in {found.seconds:.0f} s")
    print("  " + ", ".join(f"{status}: {count}" for status, count in sorted(found.statuses.items())))
    for fault, count in sorted(found.faults.items(), key=lambda pair: -pair[1])[:_SHOWN]:
        print(f"  {count} × {fault}")
    print(f"  {found.tracebacks} tracebacks in the gateway's log")
    if options.json:
        print(json.dumps(asdict(found) | {"good": found.good}))
    return 0 if found.good else 1


def run(running: House, cases: int, seed: int, workers: int = 1) -> Found:
    """Sends that many requests, shared out over all operations, and looks at each answer.

    Args:
        workers: processes that make requests. Making one costs several times what answering it costs.
    """
    began = time.perf_counter()
    if workers == 1:
        parts = [_part(running, cases, seed, 0, 1)]
    else:
        with ProcessPoolExecutor(workers) as pool:
            asked = [pool.submit(_part, running, cases, seed, number, workers) for number in range(workers)]
            parts = [one.result() for one in asked]
    statuses = sum((part.statuses for part in parts), Counter[str]())
    return Found(
        cases=statuses.total(),
        seconds=round(time.perf_counter() - began, 1),
        operations=sum(part.operations for part in parts),
        statuses=dict(statuses),
        faults=dict(sum((part.faults for part in parts), Counter[str]())),
        tracebacks=running.log.read_text(errors="replace").count("Traceback"),
    )


@dataclass(frozen=True)
class _Part:
    operations: int
    statuses: Counter[str]
    faults: Counter[str]


def _part(running: House, cases: int, seed: int, number: int, of: int) -> _Part:
    """The operations of one worker: every `of`-th."""
    import requests
    import schemathesis

    schema = schemathesis.openapi.from_url(f"{running.url}/openapi.json")
    # A description that cannot be understood is a fault of ours: `ok` raises for it.
    operations = [cast("Ok[APIOperation]", one).ok() for one in schema.get_all_operations()]
    rich = [one for one in operations if _has_input(one)]
    few = {one.label: 1 + cases // 500 for one in rich if (one.method.upper(), one.path) in _FEW}
    plain = len(operations) - len(rich)
    share = -(-(cases - plain - sum(few.values())) // (len(rich) - len(few)))
    part = _Part(len(operations[number::of]), Counter(), Counter())
    with requests.Session() as session:
        for operation in operations[number::of]:
            most = min(share, few.get(operation.label, share)) if operation in rich else 1
            _try(_Trial(operation, running, session, part.statuses, part.faults), most, seed)
    return part


@dataclass(frozen=True)
class _Trial:
    operation: "APIOperation"
    running: House
    session: Any
    statuses: Counter[str]
    faults: Counter[str]

    def send(self, case: "Case") -> None:
        """One request; what is wrong with its answer is counted."""
        import schemathesis.checks
        from schemathesis.core.failures import FailureGroup
        from schemathesis.specs.openapi import checks

        response = case.call(base_url=self.running.url, session=self.session, timeout=30)
        self.statuses[str(response.status_code)] += 1
        try:
            case.validate_response(
                response,
                checks=[
                    schemathesis.checks.not_a_server_error,
                    checks.status_code_conformance,
                    checks.content_type_conformance,
                    checks.response_headers_conformance,
                    checks.response_schema_conformance,
                ],
            )
        except FailureGroup as failures:
            for failure in failures.exceptions:
                said = " ".join(str(failure).split())[:200]
                self.faults[f"{self.operation.label} {response.status_code}: {said}"] += 1


def _has_input(operation: "APIOperation") -> bool:
    """Whether there is more than one request to make."""
    return bool(operation.body or operation.query or operation.path_parameters)


def _try(trial: _Trial, most: int, seed: int) -> None:
    """Up to so many requests of one operation: a third of them wrong on purpose."""
    import hypothesis
    from schemathesis import GenerationMode

    wrong = most // 3
    for mode, count in ((GenerationMode.POSITIVE, most - wrong), (GenerationMode.NEGATIVE, wrong)):
        if not count:
            continue

        @hypothesis.seed(seed)
        @hypothesis.settings(
            max_examples=count,
            database=None,
            deadline=None,
            phases=[hypothesis.Phase.generate],
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(_cases(trial, mode))
        def send(case: "Case") -> None:
            trial.send(case)

        send()


def _cases(trial: _Trial, mode: Any) -> "SearchStrategy[Case]":
    """Requests as the document allows them (or not), of which most name what is there."""
    from hypothesis import strategies as st

    operation = trial.operation
    ends = operation.method.upper() == "DELETE" or operation.path.rpartition("/")[2] in _ENDS
    known = {**trial.running.ids, **(trial.running.spare if ends else {})}

    @st.composite
    def cases(draw: Any) -> "Case":
        case = draw(operation.as_strategy(generation_mode=mode))
        if draw(st.sampled_from((True, True, False))):
            for part in (case.path_parameters, case.body):
                for name in known.keys() & part.keys() if isinstance(part, dict) else ():
                    part[name] = draw(st.sampled_from(known[name]))
        return case

    return cases()


if __name__ == "__main__":
    sys.exit(main())
