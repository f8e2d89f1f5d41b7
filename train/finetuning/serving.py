"""Whether a model is served already, asked of the gateway: a job that has succeeded shall answer at once.

Publishing has asked the model already, where it could; this is for what was published before an interruption, and
for what is served and not listed. Where no gateway or no engine runs, there is nothing to wait for.
"""

import http.client
import json
import time
from typing import Any
from urllib.parse import quote, urlsplit

from models.worker import JobCancelled, JobContext

_NOTICED_WITHIN_S = 3.0  # the gateway and the supervisor look at the registry a few times a second
_AGAIN_S = 0.2


def wait_until_served(context: JobContext, model: str) -> str | None:
    """Returns once the gateway says that the model is ready; a line where it is not, and why.

    Raises:
        JobCancelled: the job is to stop.
    """
    began = time.monotonic()
    while True:
        if context.cancelled:
            raise JobCancelled(model)
        told = _asked(context, model)
        if told is None:
            return None
        state = (told.get("parley") or {}).get("state", "unknown")
        if state == "ready":
            return None
        if state == "failed":
            return f"{model} is registered, and its engine cannot load it: see `parley status`"
        limit = context.settings.engine_start_timeout_s if state == "starting" else _NOTICED_WITHIN_S
        if time.monotonic() - began > limit:
            return f"{model} is registered, and no engine serves it yet"
        time.sleep(_AGAIN_S)


def _asked(context: JobContext, model: str) -> dict[str, Any] | None:
    """What the gateway says of a model ({}: it does not know it yet); None where no gateway answers."""
    address = urlsplit(context.settings.gateway_url)
    key = context.settings.page_key
    headers = {"Authorization": f"Bearer {key.get_secret_value()}"} if key else {}
    connection = http.client.HTTPConnection(address.hostname or "127.0.0.1", address.port, timeout=10)
    try:
        connection.request("GET", f"{address.path}/models/{quote(model, safe='')}", headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        return json.loads(body) if answer.status == 200 else {} if answer.status == 404 else None
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
