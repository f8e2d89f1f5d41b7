"""serve/bulk/request_pool.py and concurrency.py: every item is done once, whatever the limit does meanwhile."""

import asyncio
import random

import pytest

from serve.bulk.concurrency import START, AdaptiveConcurrency, FixedConcurrency
from serve.bulk.request_pool import run_requests


class _ChangingConcurrency(FixedConcurrency):
    """Changes at random with each answer, often from many to one."""

    def answered(self, tokens: int) -> None:
        self.limit = random.Random(tokens).choice((1, 2, 50, 100))


@pytest.mark.parametrize("count", [0, 1, 7, 2000])
async def test_every_item_is_done_once_while_the_limit_changes(count: int) -> None:
    done: list[int] = []
    limit = _ChangingConcurrency(100)

    async def work(item: int) -> None:
        await asyncio.sleep(0)
        done.append(item)
        limit.answered(item)

    await run_requests(range(count), work, limit)
    assert sorted(done) == list(range(count))


async def test_many_that_end_in_one_moment_leave_one_that_goes_on() -> None:
    done: list[int] = []
    limit, gate = FixedConcurrency(50), asyncio.Event()

    async def work(item: int) -> None:
        await gate.wait()
        done.append(item)

    running = asyncio.ensure_future(run_requests(range(200), work, limit))
    await asyncio.sleep(0.01)
    limit.limit = 3
    gate.set()
    await running
    assert sorted(done) == list(range(200))


async def test_the_first_error_ends_all() -> None:
    async def work(item: int) -> None:
        if item == 5:
            raise ValueError("five")
        await asyncio.Event().wait()

    with pytest.raises(ValueError, match="five"):
        await run_requests(range(100), work, FixedConcurrency(10))


def test_the_limit_climbs_while_the_throughput_grows_and_gives_way_to_refusals() -> None:
    now = [0.0]
    limit = AdaptiveConcurrency(clock=lambda: now[0])
    assert limit.limit == 1
    limit.answered(1)
    seen = [limit.limit]
    for _ in range(6000):  # a server whose throughput levels off at 100 requests in flight
        now[0] += 0.05 / min(limit.limit, 100)
        limit.answered(10)
        if limit.limit != seen[-1]:
            seen.append(limit.limit)
    assert seen[:3] == [START, 96, 144]
    assert max(seen) <= 216
    before = limit.limit
    for _ in range(50):
        limit.refused()  # all in one second
    assert limit.limit == int(before * 0.7)
    for _ in range(60):
        now[0] += 2
        limit.refused()
    assert limit.limit == 1
