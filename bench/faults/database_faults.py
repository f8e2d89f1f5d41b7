"""The database part of `bench.faults`: PostgreSQL goes away, restarts, is slow or cut off, under two gateways.

Each gateway is a host of its own: its own folder, its own way to the database. Clients send requests with a key without
limits, with one whose requests per minute are limited, and with one that does not exist.
"""

import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from bench.faults.database_proxy import DatabaseProxy
from bench.gateway_process import GatewayProcess
from models.keys import KeyLimits, create_key, find_key, revoke_key
from models.registry.registry import Registry
from models.spec import ModelSpec, Upstream
from models.usage import read_usage

if TYPE_CHECKING:
    from tests.serve.postgres import Postgres

MODEL = "whole"
LIMIT = 120  # requests per minute of the limited key
_BODY = orjson.dumps({"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4})
_UNLIMITED_PAUSE_S, _LIMITED_PAUSE_S = 0.05, 0.1
_SLOWEST_S = 2.5
_NOTICED_S, _RECOVERED_S = 5.0, 10.0
_TOLERANCE, _SPARE, _LEAST_SHARE = 1.05, 3, 0.6
_SATURATED = 10
_AFTER_S = 2.0
_BEFORE_KILL, _STORED_S = 20, 3.0


@dataclass
class Responses:
    """What clients saw: statuses by key, and the slowest answer."""

    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    slowest_s: float = 0.0


@dataclass(frozen=True)
class DatabaseResult:
    """One fault. `answered`: requests of the unlimited key, of which `failed` got no 200. `admitted`: requests of the
    limited key over both gateways, of at most `allowed`. `noticed_s`: until `/ready` says so; None if it need not.
    `recovered_s`: from the end of the fault until every gateway is ready. `lost`: requests that the usage table lacks,
    negative for those counted twice.
    """

    fault: str
    seconds: float
    answered: int
    failed: int
    slowest_s: float
    admitted: int
    allowed: int
    noticed_s: float | None
    recovered_s: float | None
    lost: int
    complaints: tuple[str, ...] = ()


@dataclass(frozen=True)
class DatabaseFaults:
    """All results."""

    results: tuple[DatabaseResult, ...]

    @property
    def complaints(self) -> list[str]:
        """All violated expectations, one line each."""
        return [f"database {result.fault}: {complaint}" for result in self.results for complaint in result.complaints]


class Hosts:
    """Two gateways on one PostgreSQL, with a proxy before each, and their keys."""

    def __init__(self, folder: Path, postgres: "Postgres", upstream: str, stack: ExitStack) -> None:
        address = postgres.new_database()
        socket = f"{postgres.folder}/.s.PGSQL.5432"
        self.postgres = postgres
        self.proxies = [stack.enter_context(DatabaseProxy(socket)) for _ in range(2)]
        name = address.split("/")[3].partition("?")[0]
        self.gateways = []
        for number, proxy in enumerate(self.proxies):
            url = f"postgresql://parley@127.0.0.1:{proxy.port}/{name}"
            gateway = GatewayProcess(folder / f"host-{number}", database_url=url)
            if not self.gateways:
                there = Upstream(base_url=f"{upstream}/v1", model=MODEL)
                Registry(gateway.database).register(ModelSpec(id=MODEL, kind="hosted", upstream=there))
                self.keys = {
                    "unlimited": create_key(gateway.database, name="unlimited", role="client"),
                    "limited": create_key(
                        gateway.database, name="limited", role="client", limits=KeyLimits(requests_per_minute=LIMIT)
                    ),
                    "revoked": create_key(gateway.database, name="revoked", role="client"),
                }
                revoke_key(gateway.database, find_key(gateway.database, "revoked").id)
            self.gateways.append(stack.enter_context(gateway))
        self.sent = 0  # requests that the usage table should have

    def send(self, gateway: GatewayProcess, key: str) -> int:
        """The status of one request; 0 if there is no answer."""
        headers = {"authorization": f"Bearer {self.keys[key]}", "content-type": "application/json"}
        address = f"{gateway.base_url}/chat/completions"
        request = urllib.request.Request(address, _BODY, headers)  # noqa: S310 -- our own gateway on loopback
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 -- as above
                answer.read()
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def ready(self) -> list[bool]:
        """Whether `/ready` answers 200, for each gateway."""
        return [gateway.get("/ready") is not None for gateway in self.gateways]

    def stored(self) -> int:
        """The requests in the usage table."""
        return sum(row.sums.requests for row in read_usage(self.gateways[0].database))

    @contextmanager
    def load(self) -> Iterator[Responses]:
        """Sends requests to both gateways inside the block."""
        responses, stop, lock = Responses(), threading.Event(), threading.Lock()

        def send(gateway: GatewayProcess, key: str, pause_s: float) -> None:
            while not stop.wait(pause_s):
                began = time.monotonic()
                status = self.send(gateway, key)
                with lock:
                    responses.statuses[key, status] += 1
                    responses.slowest_s = max(responses.slowest_s, time.monotonic() - began)

        pauses = {"unlimited": _UNLIMITED_PAUSE_S, "limited": _LIMITED_PAUSE_S, "revoked": 1.0}
        threads = [
            threading.Thread(target=send, args=(gateway, key, pause_s), daemon=True)
            for gateway in self.gateways
            for key, pause_s in pauses.items()
        ]
        for thread in threads:
            thread.start()
        try:
            yield responses
        finally:
            stop.set()
            for thread in threads:
                thread.join(60)


@dataclass(frozen=True)
class Fault:
    """`noticed`: whether a gateway's `/ready` must answer 503 meanwhile."""

    name: str
    noticed: bool
    begin: Callable[[Hosts], None]
    end: Callable[[Hosts], None]


def _partition(*numbers: int) -> Callable[[Hosts], None]:
    def begin(hosts: Hosts) -> None:
        for number in numbers:
            hosts.proxies[number].set_network("partitioned")

    return begin


def _slow(hosts: Hosts) -> None:
    for proxy in hosts.proxies:
        proxy.set_network("slow")


def _restore(hosts: Hosts) -> None:
    for proxy in hosts.proxies:
        proxy.set_network("up")


def _restart(hosts: Hosts) -> None:
    hosts.postgres.stop()
    hosts.postgres.start()


FAULTS: tuple[Fault, ...] = (
    Fault("gone", True, lambda hosts: hosts.postgres.stop(), lambda hosts: hosts.postgres.start()),
    Fault("restarted", False, _restart, _restore),
    Fault("slow", False, _slow, _restore),
    Fault("one gateway partitioned", True, _partition(1), _restore),
    Fault("partitioned", True, _partition(0, 1), _restore),
)


def run(hosts: Hosts, seconds: float, on_result: Callable[[DatabaseResult], None]) -> DatabaseFaults:
    """Lets each fault last for `seconds`, under load; calls `on_result` after each."""
    results = []
    for fault in FAULTS:
        results.append(_inject(hosts, fault, seconds))
        on_result(results[-1])
    results.append(_kill_while_gone(hosts))
    on_result(results[-1])
    return DatabaseFaults(tuple(results))


def _inject(hosts: Hosts, fault: Fault, seconds: float) -> DatabaseResult:
    with hosts.load() as responses:
        # From here on the limited key's bucket is empty, and only what refills is admitted.
        _until(lambda: responses.statuses["limited", 429] > _SATURATED, 60)
        responses.slowest_s = 0.0
        before, began = responses.statuses.copy(), time.monotonic()
        fault.begin(hosts)
        noticed = None
        if fault.noticed:
            noticed = _until(lambda: not all(hosts.ready()), _NOTICED_S)
        time.sleep(max(began + seconds - time.monotonic(), 0))
        fault.end(hosts)
        recovered = _until(lambda: all(hosts.ready()), _RECOVERED_S)
        time.sleep(_AFTER_S)
        counted, lasted = responses.statuses.copy(), time.monotonic() - began
    hosts.sent += sum(count for (_, status), count in responses.statuses.items() if status not in (0, 401))
    _until(lambda: hosts.stored() == hosts.sent, _RECOVERED_S)
    counted.subtract(before)
    answered = sum(count for (key, _), count in counted.items() if key == "unlimited")
    revoked = {status for (key, status), count in counted.items() if key == "revoked" and count}
    measured = DatabaseResult(
        fault.name, round(lasted, 1), answered, answered - counted["unlimited", 200], round(responses.slowest_s, 2),
        counted["limited", 200], int(LIMIT / 60 * lasted * _TOLERANCE) + _SPARE, _rounded(noticed),
        _rounded(recovered), hosts.sent - hosts.stored(),
    )  # fmt: skip
    hosts.sent = hosts.stored()
    return replace(measured, complaints=tuple(_complaints(measured, fault, revoked)))


def _complaints(measured: DatabaseResult, fault: Fault, revoked: set[int]) -> Iterator[str]:
    if not measured.answered or measured.failed:
        yield f"{measured.failed} of {measured.answered} requests failed"
    if measured.slowest_s > _SLOWEST_S:
        yield f"an answer took {measured.slowest_s:.1f} s, limit {_SLOWEST_S:.1f} s"
    if measured.admitted > measured.allowed:
        yield f"{measured.admitted} requests of the limited key were admitted, limit {measured.allowed}"
    if measured.admitted < measured.allowed * _LEAST_SHARE - _SPARE:
        yield f"only {measured.admitted} requests of the limited key were admitted, of {measured.allowed}"
    if fault.noticed and measured.noticed_s is None:
        yield f"/ready did not notice it within {_NOTICED_S:.0f} s"
    if measured.recovered_s is None:
        yield f"not ready {_RECOVERED_S:.0f} s after its end"
    if measured.lost:
        yield f"{measured.lost} requests are missing from the usage table"
    if not revoked <= {401}:
        yield f"a revoked key got {sorted(revoked)}"


def _kill_while_gone(hosts: Hosts) -> DatabaseResult:
    """A gateway is killed while PostgreSQL is gone: its usage is in its file, and counted after its restart."""
    gateway = hosts.gateways[1]
    hosts.postgres.stop()
    began = time.monotonic()
    statuses = [hosts.send(gateway, "unlimited") for _ in range(_BEFORE_KILL)]
    time.sleep(_STORED_S)
    gateway.kill()
    hosts.postgres.start()
    ended = time.monotonic()
    gateway.start()
    recovered = _until(lambda: all(hosts.ready()), _RECOVERED_S)
    hosts.sent += len(statuses)
    _until(lambda: hosts.stored() == hosts.sent, _RECOVERED_S)
    lost = hosts.sent - hosts.stored()
    complaints = [f"{lost} requests are missing from the usage table"] * bool(lost)
    complaints += ["not every request was answered"] * (statuses != [200] * _BEFORE_KILL)
    return DatabaseResult(
        "gone, and a gateway killed", round(ended - began, 1), len(statuses), len(statuses) - statuses.count(200),
        0.0, 0, 0, None, _rounded(recovered), lost, tuple(complaints),
    )  # fmt: skip


def _until(condition: Callable[[], bool], timeout_s: float) -> float | None:
    """Seconds until a condition holds; None after `timeout_s`."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > timeout_s:
            return None
        time.sleep(0.05)
    return time.monotonic() - began


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 2)
