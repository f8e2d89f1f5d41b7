"""Thousands of requests generated from the OpenAPI document, valid and invalid, against a real gateway process.

    python -m bench.schemathesis [--cases 10000] [--seed 1] [--json]

Schemathesis (https://schemathesis.io) generates the requests; most of them name existing models, files and uploads. No
response may be a 5xx, and each must have a status, content type, headers and body that the document names. The
gateway's log must not contain a traceback. Exit status 1 if anything is found.
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

from bench.schemathesis.server import Target, run_gateway

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy
    from schemathesis import APIOperation, Case
    from schemathesis.core.result import Ok

_MOST_PRINTED = 20
# Each accepted request starts a process that reads the file, so these operations get few requests.
_EXPENSIVE = frozenset({("POST", "/v1/parley/data/check")})
_FINAL_ACTIONS = frozenset({"cancel", "complete", "retire", "revoke"})


@dataclass(frozen=True)
class Findings:
    """The results: `faults` counts each kind of violation; `statuses` counts responses."""

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
    """Runs the benchmark and prints the findings; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.schemathesis", description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=10_000, help="number of requests over all operations")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2, help="processes that generate requests")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="parley-cases-") as folder, run_gateway(Path(folder) / "home") as target:
        findings = run(target, options.cases, options.seed, options.workers)
    print(f"{findings.cases} requests to {findings.operations} operations in {findings.seconds:.0f} s")
    print("  " + ", ".join(f"{status}: {count}" for status, count in sorted(findings.statuses.items())))
    for fault, count in sorted(findings.faults.items(), key=lambda pair: -pair[1])[:_MOST_PRINTED]:
        print(f"  {count} × {fault}")
    print(f"  {findings.tracebacks} tracebacks in the gateway's log")
    if options.json:
        print(json.dumps(asdict(findings) | {"good": findings.good}))
    return 0 if findings.good else 1


def run(target: Target, cases: int, seed: int, workers: int = 1) -> Findings:
    """Sends `cases` requests, spread over all operations, and checks each response.

    Args:
        workers: processes that generate requests. Generating one costs several times as much as answering it.
    """
    began = time.perf_counter()
    if workers == 1:
        parts = [_part(target, cases, seed, 0, 1)]
    else:
        with ProcessPoolExecutor(workers) as pool:
            futures = [pool.submit(_part, target, cases, seed, number, workers) for number in range(workers)]
            parts = [future.result() for future in futures]
    statuses = sum((part.statuses for part in parts), Counter[str]())
    return Findings(
        cases=statuses.total(),
        seconds=round(time.perf_counter() - began, 1),
        operations=sum(part.operations for part in parts),
        statuses=dict(statuses),
        faults=dict(sum((part.faults for part in parts), Counter[str]())),
        tracebacks=target.log.read_text(errors="replace").count("Traceback"),
    )


@dataclass(frozen=True)
class _Part:
    operations: int
    statuses: Counter[str]
    faults: Counter[str]


def _part(target: Target, cases: int, seed: int, number: int, of: int) -> _Part:
    """Runs one worker's operations: every `of`-th."""
    import requests
    import schemathesis

    headers = {"authorization": f"Bearer {target.key}"}
    schema = schemathesis.openapi.from_url(f"{target.url}/openapi.json", headers=headers)
    # `ok` raises for a description that Schemathesis cannot parse.
    operations = [cast("Ok[APIOperation]", result).ok() for result in schema.get_all_operations()]
    with_input = [operation for operation in operations if _has_input(operation)]
    few = {
        operation.label: 1 + cases // 500
        for operation in with_input
        if (operation.method.upper(), operation.path) in _EXPENSIVE
    }
    plain = len(operations) - len(with_input)
    share = -(-(cases - plain - sum(few.values())) // (len(with_input) - len(few)))
    part = _Part(len(operations[number::of]), Counter(), Counter())
    with requests.Session() as session:
        for operation in operations[number::of]:
            most = min(share, few.get(operation.label, share)) if operation in with_input else 1
            _try(_Trial(operation, target, session, part.statuses, part.faults), most, seed)
    return part


@dataclass(frozen=True)
class _Trial:
    operation: "APIOperation"
    target: Target
    session: Any
    statuses: Counter[str]
    faults: Counter[str]

    def send(self, case: "Case") -> None:
        """Sends one request and counts the violations of its response."""
        import schemathesis.checks
        from schemathesis.core.failures import FailureGroup
        from schemathesis.specs.openapi import checks

        headers = {"authorization": f"Bearer {self.target.key}"}
        response = case.call(base_url=self.target.url, session=self.session, headers=headers, timeout=30)
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
                message = " ".join(str(failure).split())[:200]
                self.faults[f"{self.operation.label} {response.status_code}: {message}"] += 1


def _has_input(operation: "APIOperation") -> bool:
    """Whether an operation has any input, so that different requests exist."""
    return bool(operation.body or operation.query or operation.path_parameters)


def _try(trial: _Trial, most: int, seed: int) -> None:
    """Sends up to `most` requests to one operation, a third of them invalid on purpose."""
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
    """A strategy for valid or invalid requests, most of which name existing objects."""
    from hypothesis import strategies as st

    operation = trial.operation
    ends = operation.method.upper() == "DELETE" or operation.path.rpartition("/")[2] in _FINAL_ACTIONS
    known = {**trial.target.ids, **(trial.target.spare if ends else {})}

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
