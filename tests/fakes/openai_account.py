"""A fake OpenAI account with everything that a fetch reads: also stored completions, evals and batches.

`denied` has patterns of paths that the key may not read, each with its status. `cut_bodies` maps a path to the number
of bytes after which its next body is cut off; an entry is used once.
"""

import re
import time
from typing import Any

from tests.fakes.http_server import Handler, Refusal, Reply, Request
from tests.fakes.openai_files import refused
from tests.fakes.openai_fine_tuning import FakeOpenAI
from tests.fakes.openai_jobs import ident


class FakeAccount(FakeOpenAI):
    """The account; the methods `add_…` are for tests."""

    def __init__(self, port: int = 0, **more: Any) -> None:
        super().__init__(port, **more)
        self.denied: dict[str, int] = {}
        self.cut_bodies: dict[str, int] = {}
        self.completions: dict[str, dict[str, Any]] = {}
        self.messages: dict[str, list[dict[str, Any]]] = {}
        self.evals: dict[str, dict[str, Any]] = {}
        self.runs: dict[str, list[dict[str, Any]]] = {}
        self.output_items: dict[str, list[dict[str, Any]]] = {}
        self.batches: dict[str, dict[str, Any]] = {}

    def routes(self) -> list[tuple[str, str, Handler]]:
        """The account's routes."""
        run = "/v1/evals/([^/]+)/runs/([^/]+)"
        return [
            ("GET", "/v1/chat/completions", lambda request: self._page(list(self.completions.values()), request)),
            ("GET", "/v1/chat/completions/([^/]+)/messages", self.list_messages),
            ("GET", "/v1/evals", lambda request: self._page(list(self.evals.values()), request)),
            ("GET", "/v1/evals/([^/]+)/runs", lambda request, name: self._page(self.runs[name], request)),
            ("GET", f"{run}/output_items", lambda request, _, name: self._page(self.output_items[name], request)),
            ("GET", "/v1/batches", lambda request: self._page(list(self.batches.values()), request)),
            *super().routes(),
        ]

    def admit(self, request: Request) -> None:
        """401 for another key, and what `denied` says."""
        super().admit(request)
        for pattern, status in self.denied.items():
            if re.fullmatch(pattern, request.path):
                text = f"You have insufficient permissions for this operation. Missing scopes of {request.path}"
                raise refused(text, status=status)

    def answer(self, request: Request) -> Reply | None:
        """The reply, with a body that is shorter than its content-length if it is to be cut off."""
        reply = super().answer(request)
        size = self.cut_bodies.pop(request.path, None)
        if size is None or reply is None or not isinstance(reply.content, bytes):
            return reply
        return Reply(reply.content[:size], reply.status, {**reply.headers, "content-length": str(len(reply.content))})

    def list_messages(self, request: Request, name: str) -> dict[str, Any]:
        """The messages of a stored completion."""
        if name not in self.messages:
            raise Refusal(404, {"error": {"message": f"No such completion: {name}"}})
        return self._page(self.messages[name], request)

    def add_completion(self, name: str, question: str, answer: str, **fields: Any) -> None:
        """A completion that was stored a week ago."""
        message = {"role": "assistant", "content": answer, "refusal": None}
        self.completions[name] = {
            "id": name, "object": "chat.completion", "created": int(time.time()) - 7 * 86400,
            "model": "gpt-4o-mini-2024-07-18", "request_id": f"req_{name}", "metadata": {"topic": "refunds"},
            "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}, "temperature": 0.5, "top_p": 1.0,
            "seed": None, "tools": None, "tool_choice": None, "response_format": None, **fields,
        }  # fmt: skip
        rows = (("system", "Be short."), ("user", question))
        self.messages[name] = [
            {"id": f"{name}-{place}", "role": role, "content": content, "name": None, "content_parts": None}
            for place, (role, content) in enumerate(rows)
        ]

    def add_eval(self, number: int, file_id: str | None = None) -> str:
        """An eval with one finished run of two output items; the eval's id."""
        name, run = ident("eval_", number), ident("evalrun_", number)
        criterion = {
            "id": "same", "name": "same", "type": "string_check", "operation": "eq", "reference": "{{item.answer}}",
            "input": "{{sample.output_text}}",
        }  # fmt: skip
        schema = {"type": "object", "properties": {"item": {"type": "object"}, "sample": {"type": "object"}}}
        self.evals[name] = {
            "id": name, "object": "eval", "name": f"Refunds {number}", "created_at": int(time.time()), "metadata": {},
            "data_source_config": {"type": "custom", "schema": schema}, "testing_criteria": [criterion],
        }  # fmt: skip
        source: dict[str, Any] = {"type": "file_content", "content": []}
        if file_id:
            source = {"type": "file_id", "id": file_id}
        items = [self._output_item(name, run, place) for place in range(2)]
        self.runs[name] = [
            {
                "id": run, "object": "eval.run", "eval_id": name, "name": "first", "model": "gpt-4o-mini",
                "status": "completed", "created_at": int(time.time()),
                "data_source": {"type": "jsonl", "source": source},
                "result_counts": {"total": 2, "errored": 0, "failed": 1, "passed": 1}, "metadata": {},
                "per_testing_criteria_results": [{"testing_criteria": "same", "passed": 1, "failed": 1}],
                "per_model_usage": [], "error": None, "report_url": "https://platform.openai.com/evaluations/1",
            }
        ]  # fmt: skip
        self.output_items[run] = items
        return name

    def add_batch(self, number: int, input_file: str, output_file: str) -> None:
        """A finished batch."""
        name = ident("batch_", number)
        self.batches[name] = {
            "id": name, "object": "batch", "endpoint": "/v1/chat/completions", "status": "completed",
            "input_file_id": input_file, "output_file_id": output_file, "error_file_id": None,
            "completion_window": "24h", "created_at": int(time.time()), "errors": None, "metadata": None,
        }  # fmt: skip

    def _output_item(self, eval_id: str, run: str, place: int) -> dict[str, Any]:
        passed = place == 0
        result = {"name": "same", "type": "string_check", "score": float(passed), "passed": passed, "sample": None}
        return {
            "id": f"outputitem_{run[8:]}{place}", "object": "eval.run.output_item", "eval_id": eval_id, "run_id": run,
            "created_at": int(time.time()), "status": "pass" if passed else "fail", "datasource_item_id": place,
            "datasource_item": {"question": f"q{place}", "answer": "yes"},
            "results": [result],
            "sample": {
                "input": [{"role": "user", "content": f"q{place}"}],
                "output": [{"role": "assistant", "content": "yes" if passed else "no"}], "finish_reason": "stop",
                "model": "gpt-4o-mini", "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
                "error": None, "seed": 1, "temperature": 0.0, "top_p": 1.0, "max_completion_tokens": 10,
            },
        }  # fmt: skip
