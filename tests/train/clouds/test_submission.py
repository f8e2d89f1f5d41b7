"""One job, exactly one: checked, priced, agreed to, sent, whatever the network does. Real SDKs, both fakes."""

import json
from pathlib import Path
from typing import Any

import pytest

from models.errors import Busy, Conflict, Invalid, Unauthorized, Unavailable
from models.registry.registry import Registry
from models.settings.settings import Settings, load_settings
from tests.fakes.openai_fine_tuning import FakeOpenAI
from tests.fakes.together_fine_tuning import FakeTogether
from tests.stack import ROOT
from tests.train.clouds.conftest import OPENAI_BASE, TOGETHER_BASE, write
from tests.train.conftest import style_rows
from train.clouds.follower import follow, require_success
from train.clouds.offer import Offer
from train.clouds.openai import OpenAICloud
from train.clouds.providers import open_cloud
from train.clouds.registration import register_job
from train.clouds.run_records import CloudRun, cloud_runs, find_run, lock_name
from train.clouds.submission import SubmissionHooks, submit_job
from train.clouds.together import INSTALL, TogetherCloud
from train.data.checks import UnusableData
from train.hyperparameters import Hyperparameters
from train.request import TrainingRequest
from train.run.progress import Stage

JOBS = {"openai": "/v1/fine_tuning/jobs", "together": "/v1/fine-tunes"}
BASES = {"openai": OPENAI_BASE, "together": TOGETHER_BASE}


@pytest.fixture(params=["openai", "together"])
def provider(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def fake(provider: str, openai_fake: FakeOpenAI, together_fake: FakeTogether) -> Any:
    return {"openai": openai_fake, "together": together_fake}[provider]


@pytest.fixture
def bought(provider: str, account: Settings, registry: Registry, data: Path) -> Any:
    """Submits a job; keywords change the training and the hooks. Waits take no time."""

    def buy(
        cloud: Any = None, pause: Any = lambda seconds: None, agree: Any = lambda offer: True, **changed: Any
    ) -> Any:
        training = TrainingRequest(**{"data": data, "name": "support-v1", "base": BASES[provider]} | changed)
        hooks = SubmissionHooks(confirm=agree, pause=pause)
        return submit_job(training, cloud or quick(provider, account), account, registry, hooks)

    return buy


def quick(provider: str, settings: Settings) -> Any:
    """The cloud without the SDK's own waits."""
    together = provider == "together"
    return TogetherCloud(settings, check_s=0.01, retries=0) if together else OpenAICloud(settings, retries=0)


def followed(run: CloudRun, settings: Settings, tell: Any = lambda event: None) -> CloudRun:
    return follow(run, quick(run.provider, settings), tell, poll_s=0.01)


@pytest.mark.long
def test_from_data_to_a_hosted_model(
    provider: str, fake: Any, bought: Any, account: Settings, registry: Registry
) -> None:
    offers: list[Offer] = []
    run = bought(agree=lambda offer: offers.append(offer) or True)
    assert (run.provider, run.examples, run.held_out) == (provider, 36, 4)
    assert (offers[0].left_out, offers[0].quote is not None) == (1, True)
    assert offers[0].quote.usd > 0
    told: list[Any] = []
    run = require_success(followed(run, account, told.append), provider)
    made = register_job(open_cloud(provider, account).job(run.job), open_cloud(provider, account), registry, run.name)
    spec = registry.resolve("support-v1")
    assert made.new
    assert spec.upstream is not None
    assert (spec.kind, spec.upstream.model) == ("hosted", run.model)
    assert spec.upstream.credential == {"openai": "OPENAI_API_KEY", "together": "TOGETHER_API_KEY"}[provider]
    assert str(spec.shutdown_date) == {"openai": "2027-01-14", "together": "None"}[provider]
    assert fake.key not in spec.model_dump_json()
    assert account.credential(spec.upstream.credential) == fake.key
    assert not register_job(
        open_cloud(provider, account).job(run.job), open_cloud(provider, account), registry, run.name
    ).new
    # Everything is in the folder: what was sent, what was told, and no key.
    sent = run.training_path.read_text().splitlines()
    assert len(sent) == 36
    assert json.loads(sent[0])["messages"][0]["role"] == "user"
    kept = [json.loads(line) for line in (run.folder / "events.jsonl").read_text().splitlines()]
    assert [event["id"] for event in kept] == [event.id for event in told]
    assert len({event["id"] for event in kept}) == len(kept) > 8
    assert fake.key not in (run.folder / "cloud.json").read_text()
    assert find_run(account, "support-v1") == find_run(account, run.run) == find_run(account, run.job) == run
    # The model answers at the address that was registered.
    import openai

    client = openai.OpenAI(base_url=spec.upstream.base_url, api_key=fake.key)
    question = json.loads(sent[3])["messages"]
    answer = client.chat.completions.create(model=spec.upstream.model, messages=question[:1])
    assert answer.choices[0].message.content == question[1]["content"]


def test_openai_metrics_are_a_curve(openai_fake: FakeOpenAI, account: Settings, registry: Registry, data: Path) -> None:
    run = submit_job(TrainingRequest(data, OPENAI_BASE, "x"), OpenAICloud(account), account, registry)
    run = followed(run, account)
    rows = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if "loss" in row]
    assert losses[-1] < losses[0]
    assert any("validation_loss" in row for row in rows)
    # The fake's pages have five events; all were fetched.
    assert openai_fake.count("GET", ".*/events") > 3


@pytest.mark.long
def test_following_again_tells_all_and_keeps_each_once(bought: Any, account: Settings) -> None:
    run = bought()
    first: list[Any] = []
    run = followed(run, account, first.append)
    again: list[Any] = []
    followed(find_run(account, "support-v1"), account, again.append)
    assert [event.id for event in again] == [event.id for event in first]
    assert len((run.folder / "events.jsonl").read_text().splitlines()) == len(first)


@pytest.mark.long
@pytest.mark.parametrize("after", [True, False])
def test_a_connection_that_is_cut_makes_no_second_job(provider: str, fake: Any, bought: Any, after: bool) -> None:
    fake.cut("POST", JOBS[provider], after=after)
    waits: list[float] = []
    run = bought(pause=waits.append)
    assert len(fake.jobs) == 1
    assert run.job in fake.jobs
    assert waits[0] == 0.5
    assert fake.count("POST", JOBS[provider]) == (1 if after else 2)


@pytest.mark.long
def test_silence_after_creating_is_reported_and_the_next_try_finds_the_job(
    provider: str, fake: Any, bought: Any, account: Settings
) -> None:
    fake.cut("POST", JOBS[provider], after=True)
    fake.fail("GET", JOBS[provider], 503, times=100)
    with pytest.raises(Unavailable, match="not known whether the job was created"):
        bought()
    run = next(cloud_runs(account))
    assert (run.job, run.sending) == (None, True)
    fake.faults.clear()
    uploads = fake.count("POST", "/v1/files")
    again = bought(agree=lambda offer: pytest.fail("agreed to before"))
    assert again.run == run.run
    assert len(fake.jobs) == 1
    assert fake.count("POST", "/v1/files") == uploads
    third = bought()
    assert third.job == again.job


def test_429_waits_as_long_as_it_is_told(provider: str, fake: Any, bought: Any) -> None:
    slow = {"error": {"message": "Rate limit reached", "type": "requests", "param": None, "code": "rate_limit"}}
    fake.fail("POST", JOBS[provider], 429, slow, times=2, retry_after="7")
    waits: list[float] = []
    bought(pause=waits.append)
    assert waits == [7.0, 7.0]
    assert len(fake.jobs) == 1


def test_429_for_ever_is_one_line(provider: str, fake: Any, bought: Any) -> None:
    fake.fail("POST", JOBS[provider], 429, times=100, retry_after="1")
    with pytest.raises(Busy, match="limits the rate"):
        bought()
    assert not fake.jobs


@pytest.mark.long
def test_trouble_while_following_is_waited_for(provider: str, fake: Any, bought: Any, account: Settings) -> None:
    run = bought()
    fake.cut("GET", f"{JOBS[provider]}/{run.job}", after=False, times=7)
    assert followed(run, account).state == "succeeded"


def test_a_wrong_key_sends_nothing(provider: str, fake: Any, bought: Any, account: Settings) -> None:
    wrong = load_settings(
        home=account.home,
        openai_api_key="sk-wrong",
        openai_base_url=account.openai_base_url,
        together_api_key="wrong",
        together_base_url=account.together_base_url,
    )
    with pytest.raises(Unauthorized) as caught:
        bought(cloud=quick(provider, wrong))
    assert not fake.jobs
    assert "sk-wrong" not in str(caught.value)


@pytest.mark.long
def test_a_model_that_cannot_be_tuned(provider: str, fake: Any, bought: Any, account: Settings) -> None:
    with pytest.raises(Invalid):
        bought(base="gpt-4o-mini-2024-07-18" if provider == "together" else "davinci-002")
    assert next(cloud_runs(account)).sending is False
    # So the name is free for another try.
    assert bought().job in fake.jobs


@pytest.mark.long
def test_cancelling(provider: str, fake: Any, bought: Any, account: Settings) -> None:
    fake.tick = 60.0
    run = bought()
    assert open_cloud(provider, account).cancel(run.job).state == "cancelled"
    ended = followed(run, account)
    assert ended.state == "cancelled"
    with pytest.raises(Exception, match="was cancelled"):
        require_success(ended, provider)
    # A cancelled run stands in nobody's way.
    assert bought().job != run.job


def test_a_second_run_of_one_name_with_other_data_is_refused(bought: Any, tmp_path: Path) -> None:
    bought()
    with pytest.raises(Conflict, match="already"):
        bought(data=write(tmp_path / "b.jsonl", style_rows(30, seed=2)))


def test_two_terminals_do_not_buy_twice(fake: Any, bought: Any, account: Settings) -> None:
    with lock_name(account, "support-v1"), pytest.raises(Busy, match="Another process"):
        bought()
    assert not fake.jobs
    assert bought().job in fake.jobs


def test_not_agreed_is_not_sent(fake: Any, bought: Any, account: Settings) -> None:
    with pytest.raises(Invalid, match="Nothing was sent"):
        bought(agree=lambda offer: False)
    assert not fake.requests
    assert not list(cloud_runs(account))


def test_bad_data_is_refused_here(fake: Any, bought: Any) -> None:
    with pytest.raises(UnusableData):
        bought(data=[{"messages": []}] * 12)
    labelled = [{"prompt": f"question {n}?", "completion": "Yes", "label": n % 2 > 0} for n in range(20)]
    for method, says in (("sft", "train here with --method kto"), ("kto", "does not support KTO")):
        with pytest.raises(Invalid, match=says):
            bought(data=labelled, method=method)
    assert not fake.requests


@pytest.mark.long
@pytest.mark.parametrize(
    ("wanted", "openai", "together"),
    [
        ({"learning_rate": 1e-4}, "multiplier", None),
        ({"rank": 8}, "not support rank", None),
        ({"epochs": 1.5}, "whole epochs", "whole epochs"),
        ({"tune": "qlora"}, "not support tune", "lora or full"),
        ({"dora": True}, "not support dora", "not support dora"),
        ({"schedule": "constant"}, "not support schedule", "cosine and linear"),
        ({"epochs": 2, "batch_size": 8}, None, None),
    ],
)
def test_a_number_that_a_cloud_has_no_place_for_is_refused(
    provider: str, bought: Any, wanted: dict[str, Any], openai: str | None, together: str | None
) -> None:
    says = {"openai": openai, "together": together}[provider]
    if says is None:
        assert bought(hyperparameters=Hyperparameters(**wanted)).job
    else:
        with pytest.raises(Invalid, match=says):
            bought(hyperparameters=Hyperparameters(**wanted))


def test_the_providers_own_check_of_the_file(
    openai_fake: FakeOpenAI, account: Settings, registry: Registry, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.fakes.openai_jobs.FEWEST", 100)
    run = submit_job(TrainingRequest(data, OPENAI_BASE, "x"), OpenAICloud(account), account, registry)
    with pytest.raises(Exception, match=r"36 example\(s\), but must have at least 100"):
        require_success(followed(run, account), "OpenAI")


def test_preference_pairs_go_as_dpo(provider: str, fake: Any, bought: Any, tmp_path: Path) -> None:
    pairs = [
        {
            "input": {"messages": [{"role": "user", "content": f"question {n}?"}]},
            "preferred_output": [{"role": "assistant", "content": f"good {n}"}],
            "non_preferred_output": [{"role": "assistant", "content": f"bad {n}"}],
        }
        for n in range(30)
    ]
    path = write(tmp_path / "pairs.jsonl", pairs)
    run = bought(data=path, method="dpo", hyperparameters=Hyperparameters(beta=0.2))
    fields = fake.jobs[run.job].fields
    if provider == "openai":
        assert fields["method"]["dpo"]["hyperparameters"]["beta"] == 0.2
    else:
        assert fields["training_method"] == {"method": "dpo", "dpo_beta": 0.2} | fields["training_method"]
    assert json.loads(run.training_path.read_text().splitlines()[0]).keys() == pairs[0].keys()
    with pytest.raises(Invalid, match="has preference pairs"):
        bought(data=path, name="other")


def test_a_large_file_goes_in_parts(openai_fake: FakeOpenAI, account: Settings, registry: Registry, data: Path) -> None:
    cloud = OpenAICloud(account, one_piece=1000)
    run = submit_job(TrainingRequest(data, OPENAI_BASE, "x"), cloud, account, registry)
    assert openai_fake.count("POST", "/v1/uploads/.*/complete") == 1
    assert openai_fake.contents[run.training_file] == run.training_path.read_bytes()


def test_together_tells_its_own_price(
    together_fake: FakeTogether, account: Settings, registry: Registry, data: Path
) -> None:
    told: list[Any] = []
    hooks = SubmissionHooks(progress=told.append)
    submit_job(TrainingRequest(data, TOGETHER_BASE, "x"), quick("together", account), account, registry, hooks)
    assert any("Together AI estimates" in event.message for event in told if isinstance(event, Stage))


def test_no_key_and_no_such_cloud(home: Path) -> None:
    bare = load_settings(home=home)
    for provider in ("openai", "together"):
        with pytest.raises(Invalid, match="API_KEY is not set"):
            open_cloud(provider, bare)
    with pytest.raises(Invalid, match="openai or together"):
        open_cloud("azure", bare)


def test_without_togethers_sdk_there_is_one_line(account: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "together", None)
    with pytest.raises(Invalid, match=r"pip install --no-deps together=="):
        TogetherCloud(account)


def test_the_line_that_installs_togethers_sdk_has_the_pins_of_the_tests() -> None:
    pins = (ROOT / "requirements" / "dev.txt").read_text().splitlines()
    named = [word for word in INSTALL.split() if "==" in word]
    assert len(named) == 3
    assert set(named) <= set(pins)
