"""An old account at the fake OpenAI of tests/fakes: models that still answer, and the jobs that made some of them."""

from typing import Any

from tests.fakes import openai_fine_tuning
from tests.fakes.http_server import Handler
from tests.fakes.openai_fine_tuning import KEY
from tests.fakes.openai_jobs import Job

__all__ = ["JOBS", "KEY", "MODELS", "FakeOpenAI"]

PAGE = 2


def model(name: str, created: int = 1_700_000_000, **fields: Any) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": "acme", **fields}


def job(name: str, base: str, tuned: str | None, status: str = "succeeded") -> dict[str, Any]:
    return {
        "id": name,
        "object": "fine_tuning.job",
        "created_at": 1_700_000_000,
        "finished_at": 1_710_000_000 if tuned else None,
        "model": base,
        "fine_tuned_model": tuned,
        "organization_id": "org-acme",
        "status": status,
        "trained_tokens": 1234,
        "hyperparameters": {"n_epochs": 3},
        "result_files": ["file-2"] if tuned else [],
        "seed": 1,
        "training_file": "file-1",
        "method": {"type": "supervised"},
        "metadata": None,
    }


MODELS = [
    model("gpt-4o"),
    model("ft:gpt-4o-mini-2024-07-18:acme:support:A1", 1_705_000_000),
    model("ft:gpt-4.1-2025-04-14:acme::B2", 1_720_000_000),
    model("ft:gpt-5-nano:acme::C3", 1_730_000_000, shutdown_date="2028-05-01"),
    model("ft:davinci-002:acme::D4", 1_600_000_000),
]
JOBS = [
    job("ftjob-1", "gpt-4o-mini-2024-07-18", "ft:gpt-4o-mini-2024-07-18:acme:support:A1"),
    job("ftjob-2", "gpt-4.1-2025-04-14", "ft:gpt-4.1-2025-04-14:acme::B2"),
    job("ftjob-3", "gpt-4o", None, "failed"),
    job("ftjob-4", "gpt-4o-2024-08-06", "ft:gpt-4o-2024-08-06:acme::deleted"),
    job("ftjob-5", "gpt-5-nano", "ft:gpt-5-nano:acme::C3"),
]


class FakeOpenAI(openai_fine_tuning.FakeOpenAI):
    """The account. Without `jobs` it is a server without fine-tuning."""

    def __init__(self, *, jobs: bool = True) -> None:
        self._tunes = jobs
        super().__init__(page=PAGE)
        self.models = {model["id"]: model for model in MODELS}
        self.announce = {model["id"]: model["shutdown_date"] for model in MODELS if "shutdown_date" in model}
        # Newest first is how they are listed.
        for number, job in enumerate(reversed(JOBS), 1):
            self.jobs[job["id"]] = Job(dict(job), [], self.tick, number)

    def routes(self) -> list[tuple[str, str, Handler]]:
        """The routes, with or without fine-tuning."""
        return [route for route in super().routes() if self._tunes or "fine_tuning" not in route[1]]
