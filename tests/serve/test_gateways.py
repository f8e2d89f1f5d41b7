"""Two hosts in this process on one database, each with its own home, act as one: limits, keys, aliases, files.

The homes share only the entries named in docs/scaling.md.
"""

import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import date
from pathlib import Path

import openai
import orjson
import pytest

from models.api import routes
from models.database import Database, utcnow
from models.home.page_secret import page_secret
from models.keys import KeyLimits, create_key, find_key, revoke_key
from models.settings.settings import Settings
from models.usage import daily_totals
from serve.accounting.request_logs import UsageLog
from serve.fleet.engine_states import read_key, write_key
from tests.serve.gateways import Serving, serving
from tests.serve.paced_upstream import PacedUpstream

Pair = tuple[Serving, Serving]
BODY = orjson.dumps({"model": "whole", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4})


SHARED_FOLDERS = ("files", "models", "runs")
SHARED_FILES = ("page-secret", "engine.key")


def second_home(home: Path, folder: Path) -> Path:
    """The home of another host, with the entries that must be shared."""
    folder.mkdir()
    page_secret(home)
    write_key(home, "secret-of-the-engines")
    for name in SHARED_FOLDERS:
        (home / name).mkdir(exist_ok=True)
    for name in (*SHARED_FOLDERS, *SHARED_FILES):
        (folder / name).symlink_to(home / name)
    return folder


@pytest.fixture
def pair(settings: Settings, any_database: Database, upstream: PacedUpstream, tmp_path: Path) -> Iterator[Pair]:
    """Two gateways on one database."""
    homes = (settings.home, second_home(settings.home, tmp_path / "second"))
    hosts = [
        settings.model_copy(update={"home": home, "port": port, "gateway_workers": 2})
        for home, port in zip(homes, (8001, 8002), strict=True)
    ]
    with ExitStack() as stack:
        first, second = (stack.enter_context(serving(host, any_database, routes(host, any_database))) for host in hosts)
        first.hosted("whole", base_url=f"{upstream.address}/v1")
        deadline = time.monotonic() + 5
        while any(gateway.app._accounting.leases is None for gateway in (first, second)):
            assert time.monotonic() < deadline, "the gateways do not know of each other"
            time.sleep(0.02)
        yield first, second


def new_key(pair: Pair, **limits: int) -> str:
    secret = create_key(pair[0].database, name="app", role="client", limits=KeyLimits(**limits))
    for gateway in pair:
        gateway.seen(lambda snapshot: bool(snapshot.keys) and "whole" in snapshot.routes)
    return secret


def status(gateway: Serving, secret: str) -> int:
    request = urllib.request.Request(
        f"{gateway.base_url}/chat/completions",
        BODY,
        {"authorization": f"Bearer {secret}", "content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def send(pair: Pair, secret: str, count: int, weights: str = "01") -> Counter[int]:
    """Statuses of requests in turns to the gateways that `weights` names."""
    return Counter(status(pair[int(weights[number % len(weights)])], secret) for number in range(count))


def test_requests_per_minute_hold_over_both(pair: Pair) -> None:
    secret = new_key(pair, requests_per_minute=60)
    began = time.monotonic()
    statuses = send(pair, secret, 90, "0001")
    refilled = time.monotonic() - began
    assert 57 <= statuses[200] <= 60 + refilled
    assert statuses[429] == 90 - statuses[200]
    revoke_key(pair[0].database, find_key(pair[0].database, "app").id)
    began = time.monotonic()
    while {status(gateway, secret) for gateway in pair} != {401}:
        assert time.monotonic() - began < 1


def test_a_budget_holds_over_both(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(UsageLog, "interval_s", 0.05)
    secret = new_key(pair, daily_tokens=440)  # 40 answers of 11 tokens
    statuses = send(pair, secret, 60)
    deadline = time.monotonic() + 5
    while statuses[200] < 40 and time.monotonic() < deadline:
        statuses += send(pair, secret, 2)  # leases of the other come back
    assert 40 <= statuses[200] <= 42
    key = find_key(pair[0].database, "app").id
    for gateway in pair:
        gateway.app._accounting._usage.flush()
    (used,) = (sums.tokens for name, sums in daily_totals(gateway.database, _today()).items() if name == key)
    assert used == 11 * statuses[200]


def test_files_uploads_and_secrets_are_those_of_both(pair: Pair) -> None:
    here, there = (openai.OpenAI(base_url=host.base_url, api_key="any", max_retries=0) for host in pair)
    line = b'{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}\n'
    file = here.files.create(file=("train.jsonl", line), purpose="fine-tune")
    assert there.files.content(file.id).read() == line
    upload = here.uploads.create(filename="two.jsonl", purpose="fine-tune", bytes=2 * len(line), mime_type="text/jsonl")
    parts = [client.uploads.parts.create(upload.id, data=line).id for client in (here, there)]
    whole = there.uploads.complete(upload.id, part_ids=parts).file
    assert whole is not None
    assert here.files.content(whole.id).read() == line * 2
    there.files.delete(file.id)
    with pytest.raises(openai.NotFoundError):
        here.files.retrieve(file.id)
    homes = [host.settings.home for host in pair]
    assert page_secret(homes[0]) == page_secret(homes[1])
    assert [read_key(home) for home in homes] == ["secret-of-the-engines"] * 2
    pair[0].registry.alias("support", "whole")
    pair[1].seen(lambda snapshot: "support" in snapshot.routes, 1)
    pair[1].registry.unalias("support")
    pair[0].seen(lambda snapshot: "support" not in snapshot.routes, 1)


def _today() -> date:
    return utcnow().date()
