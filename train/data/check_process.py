"""`python -m train.data.check_process`: one check in a separate process, so that a large file does not block chats.

Reads the arguments of `check` as one JSON object from standard input. Writes one object to standard output:
`{"report": …}`, or `{"error": {message, status, param, code}}` for a user error.
"""

import json
import sys
from pathlib import Path
from typing import Any

from models.errors import ParleyError


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
    return report.to_json()


if __name__ == "__main__":
    main()
