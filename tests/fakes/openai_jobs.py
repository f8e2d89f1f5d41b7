"""A fake fine-tuning job of OpenAI's: its checks, steps, events and checkpoints, timed by the clock.

A job is a list of moments, one every `tick` seconds, which are applied when the job is read. Nothing is trained.
"""

import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

CHECKPOINTS = 3
FEWEST = 10


def ident(prefix: str, number: int) -> str:
    """An id like OpenAI's: a prefix and 24 letters and digits that include the number."""
    return f"{prefix}{number:04d}{'abcdefghijkmnpqrstuvwxyz'[:20]}"


@dataclass
class Job:
    """One job. `fields` is the API's object; the rest is its schedule."""

    fields: dict[str, Any]
    rows: list[bytes]
    tick: float
    number: int
    moments: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    checkpoints: list[dict[str, Any]] = field(default_factory=list)
    due: float = 0.0
    paused: bool = False

    @property
    def over(self) -> bool:
        """Whether nothing happens to it any more."""
        return self.fields["status"] in ("succeeded", "failed", "cancelled")

    def tell(self, message: str, level: str = "info", data: dict[str, Any] | None = None) -> None:
        """Adds an event; one with `data` is of type metrics."""
        number = len(self.events)
        self.events.append(
            {
                "object": "fine_tuning.job.event",
                "id": f"ftevent-{self.number:04d}{number:06d}",
                "created_at": int(time.time()),
                "level": level,
                "message": message,
                "data": data or {},
                "type": "metrics" if data else "message",
            }
        )

    def begin(self) -> None:
        """Plans the whole job; nothing of it has happened yet."""
        self.tell(f"Created fine-tuning job: {self.fields['id']}")
        self.tell(f"Validating training file: {self.fields['training_file']}")
        self.moments = list(self._plan())
        self.due = time.monotonic() + self.tick

    def advance(self) -> None:
        """Plays the moments that have come."""
        now = time.monotonic()
        while self.moments and not self.over and not self.paused and now >= self.due:
            self.due += self.tick
            name, values = self.moments.pop(0)
            getattr(self, f"_{name}")(**values)

    def cancel(self) -> None:
        """Ends it, as the caller asked."""
        self.fields["status"], self.fields["finished_at"] = "cancelled", int(time.time())
        self.tell("The job was cancelled")

    def pause(self, on: bool) -> None:
        """Pauses or goes on. There is no status for it: a paused job reads `queued`."""
        self.paused = on
        self.fields["status"] = "queued" if on else "running"
        self.tell("The job has been paused" if on else "The job has been resumed")
        self.due = time.monotonic() + self.tick

    def _plan(self) -> Iterator[tuple[str, dict[str, Any]]]:
        fault = _fault(self.rows, self.fields["method"]["type"])
        if fault:
            yield "fail", fault
            return
        values = self.fields["method"][self.fields["method"]["type"]]["hyperparameters"]
        auto = {"n_epochs": 3, "batch_size": 1, "learning_rate_multiplier": 1.8, "beta": 0.1}
        for name, value in auto.items():
            if values.get(name) == "auto":
                values[name] = value
        self.fields["hyperparameters"] |= {name: values[name] for name in self.fields["hyperparameters"]}
        steps = max(1, math.ceil(len(self.rows) * values["n_epochs"] / values["batch_size"]))
        yield "queue", {}
        yield "start", {}
        shown = sorted({1, *(round(steps * part / 12) or 1 for part in range(1, 13))})
        for step in shown:
            yield "step", {"step": step, "steps": steps}
        for part in range(CHECKPOINTS):
            yield "checkpoint", {"step": max(1, steps - (CHECKPOINTS - 1 - part) * max(1, steps // 3)), "steps": steps}
        yield "succeed", {"steps": steps}

    def _fail(self, code: str, message: str) -> None:
        self.fields["status"], self.fields["finished_at"] = "failed", int(time.time())
        self.fields["error"] = {"code": code, "message": message, "param": "training_file"}
        self.tell(f"The job failed due to an invalid training file. {message}", "error")

    def _queue(self) -> None:
        self.fields["status"] = "queued"
        self.tell("Files validated, moving job to queued state")

    def _start(self) -> None:
        self.fields["status"] = "running"
        self.tell("Fine-tuning job started")

    def _step(self, step: int, steps: int) -> None:
        loss = round(0.6 + 2.4 * math.exp(-4 * step / steps), 4)
        data = {
            "step": step,
            "total_steps": steps,
            "train_loss": loss,
            "train_mean_token_accuracy": round(1 - loss / 4, 4),
        }
        text = f"Step {step}/{steps}: training loss={loss:.2f}"
        if self.fields.get("validation_file"):
            data |= {"valid_loss": round(loss + 0.1, 4), "valid_mean_token_accuracy": round(0.95 - loss / 4, 4)}
            text += f", validation loss={loss + 0.1:.2f}"
        self.tell(text, data=data)

    def _checkpoint(self, step: int, steps: int) -> None:
        last = step == steps
        name = self.model_name() + ("" if last else f":ckpt-step-{step}")
        loss = round(0.6 + 2.4 * math.exp(-4 * step / steps), 4)
        self.checkpoints.append(
            {
                "object": "fine_tuning.job.checkpoint",
                "id": f"ftckpt_{self.number:04d}{len(self.checkpoints):02d}",
                "created_at": int(time.time()),
                "fine_tuned_model_checkpoint": name,
                "fine_tuning_job_id": self.fields["id"],
                "step_number": step,
                "metrics": {"step": step, "train_loss": loss, "train_mean_token_accuracy": round(1 - loss / 4, 4)}
                | ({"full_valid_loss": round(loss + 0.1, 4)} if self.fields.get("validation_file") else {}),
            }
        )
        if not last:
            self.tell(f"Checkpoint created at step {step}")

    def _succeed(self, steps: int) -> None:
        self.fields |= {
            "status": "succeeded",
            "finished_at": int(time.time()),
            "fine_tuned_model": self.model_name(),
            "trained_tokens": sum(len(row) for row in self.rows)
            // 4
            * self.fields["hyperparameters"].get("n_epochs", 1),
        }
        self.tell(f"New fine-tuned model created: {self.model_name()}")
        self.tell("The job has successfully completed")

    def model_name(self) -> str:
        """What the finished model is called."""
        return f"ft:{self.fields['model']}:acme:{self.fields.get('user_provided_suffix') or ''}:{self.number:04d}Fake"


def _fault(rows: list[bytes], method: str) -> dict[str, str] | None:
    """What OpenAI's validation would say of a file, the commonest cases."""
    wanted = "preferred_output" if method == "dpo" else "messages"
    for line, row in enumerate(rows, 1):
        try:
            value = json.loads(row)
        except ValueError:
            return {"code": "invalid_file_format", "message": f"Invalid file format. Line {line} is not valid JSON."}
        if not isinstance(value, dict) or not value.get(wanted):
            return {
                "code": "invalid_file_format",
                "message": f'Invalid file format. Example {line} is missing key "{wanted}".',
            }
    if len(rows) < FEWEST:
        return {
            "code": "invalid_n_examples",
            "message": f"Training file has {len(rows)} example(s), but must have at least {FEWEST} examples.",
        }
    return None
