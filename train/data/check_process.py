"""`python -m train.data.check_process`: one check in a process of its own, so that a large file holds up no chat.

Reads one JSON object from standard input, what `check` takes by name; writes one to standard output: `{"report": …}`,
or `{"error": {message, status, param, code}}` for a mistake of the user's.
"""

import json
import sys
from pathlib import Path
from typing import Any

from models.errors import ParleyError


def main() -> None:
    """Answers the one question on standard input."""
    try:
        answer = {"report": _report(json.loads(sys.stdin.read()))}
    except ParleyError as error:
        about = {"message": error.message, "status": error.status, "param": error.param, "code": error.code}
        answer = {"error": about}
    sys.stdout.write(json.dumps(answer))


def _report(asked: dict[str, Any]) -> dict[str, Any]:
    from train.data.checks import check
    from train.data.readers import Columns

    columns = Columns(**asked["columns"])
    validation = Path(asked["validation"]) if asked.get("validation") else None
    report = check(
        Path(asked["data"]), columns, format=asked["format"], provider=asked["provider"], validation=validation
    )
    return report.as_json()


if __name__ == "__main__":
    main()
