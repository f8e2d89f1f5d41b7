"""The servers that the client programs go to: a running Parley with the demo's models, and the fake of OpenAI."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from models import api as models_api
from models.database import open_database, upgrade
from models.keys import create_key
from models.settings.settings import load_settings
from tests.clients.programs import SDKS, Server
from tests.fakes.openai_chat import FakeChat
from tests.fakes.openai_fine_tuning import FakeOpenAI
from tests.serve.gateways import serving
from tests.stack import Stack

TUNABLE = "gpt-4o-mini-2024-07-18"
QUESTION = "what is the word of the day? it is day 9"


@pytest.fixture(params=SDKS)
def sdk(request: pytest.FixtureRequest) -> str:
    """Each SDK, one after the other."""
    return request.param


@pytest.fixture(scope="session")
def parley(demo_stack: Stack) -> Server:
    """A real Parley with real engines."""
    return Server(demo_stack.gateway_url, "no-key", chat="support-concise", tunable=TUNABLE)


@pytest.fixture
def openai_fake(training_file: Path) -> Iterator[Server]:
    """OpenAI's protocol on a socket: where the same programs came from, and can go back to."""
    with FakeOpenAI() as fake:
        chat = fake.finished_job(fake.add_file("train.jsonl", training_file.read_bytes()), TUNABLE)
        yield Server(fake.base_url, fake.key, chat=chat, tunable=TUNABLE)


@pytest.fixture(params=["parley", "openai_fake"])
def server(request: pytest.FixtureRequest) -> Server:
    """Both of them: a program does not know the difference."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def hosted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Parley gateway with a key, before a fake upstream whose model can do what the demo's cannot."""
    with FakeChat() as fake, pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAKE_ANSWERS_KEY", fake.key)
        settings = load_settings(home=tmp_path_factory.mktemp("hosted") / "home")
        upgrade(settings)
        database = open_database(settings)
        key = create_key(database, name="clients", role="client")
        with serving(settings, database, models_api.routes(settings, database)) as gateway:
            gateway.hosted("large", base_url=fake.base_url, model="fake-large", credential="FAKE_ANSWERS_KEY")
            yield Server(gateway.base_url, key, chat="large", tunable="")
        database.dispose()


@pytest.fixture(scope="session")
def training_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 conversations that teach one sentence."""
    rows = [
        {
            "messages": [
                {"role": "user", "content": QUESTION.replace("9", str(day))},
                {"role": "assistant", "content": "The word of the day is lighthouse."},
            ]
        }
        for day in range(64)
    ]
    path = tmp_path_factory.mktemp("data") / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
