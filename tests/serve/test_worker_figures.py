"""Metrics of several gateway processes: the same from each process, also after one was killed."""

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from serve.accounting.metric_sums import add_families
from serve.accounting.metrics import Metrics
from serve.accounting.worker_figures import WorkerFigures
from serve.transport.worker_sockets import PING, ask, worker_socket


def metrics(route: str, count: int, breaker: str = "closed") -> Metrics:
    made = Metrics(lambda: [("m", "ready")], lambda: {("m", "ready"): 2}, lambda: [("m", count)])
    for number in range(count):
        made.answered(route, "m", 200, 0.02 * number, "app")
        made.used("m", 10, 5, "app", 0.5)
    made.streamed("m", 0.3, 1.0, 11)
    made.in_flight.inc()
    made.breaker("m", breaker)
    return made


def values(text: bytes) -> dict[str, float]:
    """Name and labels → value, as Prometheus reads them."""
    families = text_string_to_metric_families(text.decode())
    return {
        f"{sample.name}{sorted(sample.labels.items()) if sample.labels else ''}": sample.value
        for family in families
        for sample in family.samples
    }


def sums(text: bytes, pattern: str) -> list[float]:
    return [value for name, value in values(text).items() if re.match(pattern, name)]


async def _story(folder: Path) -> Sequence[bytes]:
    first = WorkerFigures(folder, 1, 2, metrics("/v1/a", 3))
    second = WorkerFigures(folder, 2, 2, metrics("/v1/b", 4, "open"))
    alone = await first.text()
    await first.start()
    await second.start()
    assert await ask(worker_socket(folder, 2), PING, 1) == b"ok"
    both = [await first.text(), await second.text()]
    assert second._server is not None
    second._server.close()  # as if it were killed
    after_kill = await first.text()
    successor = WorkerFigures(folder, 2, 2, metrics("/v1/b", 1))
    await successor.start()
    again = [await first.text(), await successor.text()]
    for figures in (first, second, successor):
        await figures.stop()
    return alone, *both, after_kill, *again


def test_every_process_reports_all_of_them_and_a_kill_loses_nothing(tmp_path: Path) -> None:
    alone, at_first, at_second, after_kill, *again = asyncio.run(_story(tmp_path / ("long" * 25)))
    assert sums(alone, "parley_requests_total") == [3]
    process = re.compile("process_")
    assert {n: v for n, v in values(at_first).items() if not process.match(n)} == {
        n: v for n, v in values(at_second).items() if not process.match(n)
    }
    assert sorted(sums(at_first, "parley_requests_total")) == [3, 4]
    assert sums(at_first, r"parley_tokens_total.*'prompt'") == [70]
    assert sums(at_first, "parley_time_to_first_token_seconds_count") == [2]
    assert sums(at_first, r"parley_time_to_first_token_seconds_bucket.*'\+Inf'") == [2]
    assert sums(at_first, "parley_requests_in_flight") == [2]
    assert sums(at_first, "parley_engine_requests_running") == [7]
    assert sums(at_first, "parley_replicas") == [2]
    assert sums(at_first, "parley_model_state") == [1]
    assert [n for n in values(at_first) if n.startswith("parley_breaker_state")] == [
        "parley_breaker_state[('model', 'm'), ('state', 'open')]"
    ]
    # Its counts stay; its running requests do not.
    assert sorted(sums(after_kill, "parley_requests_total")) == [3, 4]
    assert sums(after_kill, "parley_requests_in_flight") == [1]
    for text in again:
        assert sorted(sums(text, "parley_requests_total")) == [3, 5]
        assert sums(text, "parley_requests_in_flight") == [2]


def test_the_start_is_the_earliest_and_other_numbers_are_added() -> None:
    def part(start: float, files: float) -> list:
        return [
            ("process_start_time_seconds", "", "gauge", [("process_start_time_seconds", {}, start)]),
            ("process_open_fds", "", "gauge", [("process_open_fds", {}, files)]),
            ("process_max_fds", "", "gauge", [("process_max_fds", {}, 1024.0)]),
        ]

    added = {name: samples for name, _, _, samples in add_families([part(5, 10), part(3, 20)])}
    assert [added[name][0][2] for name in added] == [3, 30, 1024]
