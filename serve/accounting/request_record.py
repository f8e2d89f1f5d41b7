"""What one request used and how it ended. The gateway fills it in; `request_report` reads it at the end."""

import time

from models.keys import KeyInfo
from serve.accounting.rate_limits import Admission
from serve.transport.asgi import Headers
from serve.transport.error_responses import next_request_id


class RequestRecord:
    """The state of one request. `response_headers` are sent with any response or error."""

    # Defaults live on the class: most requests never change them, so they cost nothing per request.
    status = 0
    finished = False
    client_gone = False
    dispatched = False  # sent on to an engine or an upstream
    model = ""
    key: KeyInfo | None = None
    admission: Admission | None = None
    prompt_bytes = prompt_tokens = completion_tokens = sent_bytes = 0
    stream = False
    ttft_s: float | None = None  # time to the first piece of a stream
    fault = ""  # how a started stream broke

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.request_id = next_request_id()
        self.response_headers: Headers = []

    def seconds(self) -> float:
        """Seconds since the request arrived."""
        return time.perf_counter() - self.began
