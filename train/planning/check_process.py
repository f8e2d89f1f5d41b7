"""`python -m train.planning.check_process`: one check in a separate process, so that a large file does not block chats.

Reads the arguments of `check`, and the `model` whose tokens are counted, as one JSON object from standard input. Writes
one object to standard output: `{"report": …}`, or `{"error": {message, status, param, code}}` for a user error.
"""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.errors import ParleyError

if TYPE_CHECKING:
    from train.data.reports import CheckedData

_MAX_COUNTED_BYTES = 128 * 2**20
_COUNTED = ("model", "way", "how", "estimate", "examples", "tokens", "learnt_tokens", "per_example", "histogram")


def main() -> None:
    """Runs the check described on standard input."""
    try:
        answer = {"report": _report(json.loads(sys.stdin.read()))}
    except ParleyError as error:
        fields = {"message": error.message, "status": error.status, "param": error.param, "code": error.code}
        answer = {"error": fields}
    sys.stdout.write(json.dumps(answer))


def _report(request: dict[str, Any]) -> dict[str, Any]:
    from train.data.checks import check
    from train.data.readers import Columns

    columns = Columns(**request["columns"])
    validation = Path(request["validation"]) if request.get("validation") else None
    report = check(
        Path(request["data"]), columns, format=request["format"], provider=request["provider"], validation=validation
    )
    return report.to_json() | {"tokens": _tokens(report, request["model"], Path(request["data"]))}


def _tokens(report: "CheckedData", model: str, data: Path) -> dict[str, Any] | None:
    """The tokens of the examples, and how they were counted; None for a very large file, or without examples."""
    from train.planning.token_counts import count, estimate

    if data.stat().st_size > _MAX_COUNTED_BYTES or not (report.examples or report.preferences):
        return None
    try:
        counts = count(report, model, fetch=False)
    except ParleyError:  # the model's tokenizer cannot be loaded, or its template renders none of the conversations
        counts = estimate(report, model)
    values = counts.to_json()
    return {name: values[name] for name in _COUNTED}


if __name__ == "__main__":
    main()
