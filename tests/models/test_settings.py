"""Settings: the order of sources, one-line refusals, masked secrets, and the page that documents each of them."""

import os
from pathlib import Path

import pytest

from models.errors import Invalid
from models.settings.environment import child_environment, engine_environment
from models.settings.hub import use_hub_token
from models.settings.settings import Settings, load_settings

ROOT = Path(__file__).parent.parent.parent


def test_flags_take_precedence_over_environment_file_and_default(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings(home=home).port == 8000
    home.mkdir()
    (home / "parley.toml").write_text("port = 8001\n")
    assert load_settings(home=home).port == 8001
    monkeypatch.setenv("PARLEY_PORT", "8002")
    assert load_settings(home=home).port == 8002
    assert load_settings(home=home, port=8003).port == 8003
    assert load_settings(home=home, port=None).port == 8002


def test_the_home_may_come_from_the_environment_and_holds_the_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home.mkdir()
    (home / "parley.toml").write_text("page_port = 9\n")
    monkeypatch.setenv("PARLEY_HOME", str(home))
    settings = load_settings()
    assert (settings.home, settings.page_port) == (home, 9)


@pytest.mark.parametrize(
    ("content", "message"),
    [("port = 'http'", "port"), ("prot = 1", "prot"), ("port = ", "cannot be read"), ("port = 70000", "port")],
)
def test_a_wrong_file_is_one_line_that_names_what_is_wrong(home: Path, content: str, message: str) -> None:
    home.mkdir()
    (home / "parley.toml").write_text(content)
    with pytest.raises(Invalid) as caught:
        load_settings(home=home)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_mapping_comes_from_file_or_environment_and_reaches_our_own_processes(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.mkdir()
    (home / "parley.toml").write_text('[fine_tuning_models]\n"gpt-4o-mini" = "tiny"\n')
    settings = load_settings(home=home)
    assert settings.fine_tuning_models == {"gpt-4o-mini": "tiny"}
    text = child_environment(settings)["PARLEY_FINE_TUNING_MODELS"]
    (home / "parley.toml").unlink()
    monkeypatch.setenv("PARLEY_FINE_TUNING_MODELS", text)
    assert load_settings(home=home).fine_tuning_models == {"gpt-4o-mini": "tiny"}
    monkeypatch.setenv("PARLEY_FINE_TUNING_MODELS", "gpt-4o-mini=tiny")
    with pytest.raises(Invalid, match="PARLEY_FINE_TUNING_MODELS must be JSON"):
        load_settings(home=home)


def test_settings_are_frozen(settings: Settings) -> None:
    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1


def test_secrets_are_masked_wherever_the_settings_are_shown(home: Path) -> None:
    settings = load_settings(
        home=home, openai_api_key="sk-hush", page_key="pk-hush", database_url="postgresql://me:hush@host/name"
    )
    for shown in (repr(settings), str(settings), settings.model_dump_json()):
        assert "hush" not in shown
    assert settings.database_address == "postgresql+psycopg://me:hush@host/name"


def test_a_wrong_secret_is_not_repeated_in_the_refusal(home: Path) -> None:
    with pytest.raises(Invalid) as caught:
        load_settings(home=home, page_key=["hush"])
    assert "hush" not in str(caught.value)


def test_a_child_process_loads_the_same_settings(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(home=home, port=8123, page_key="pk-1", openai_api_key="sk-1", device="cpu")
    for name, value in child_environment(settings).items():
        monkeypatch.setenv(name, value)
    assert load_settings() == settings


def test_an_engine_gets_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "OPENAI_API_KEY",
        "PARLEY_PAGE_KEY",
        "HF_TOKEN",
        "PARLEY_DATABASE_URL",
        "DB_PASSWORD",
        "OTEL_EXPORTER_OTLP_HEADERS",
    ):
        monkeypatch.setenv(name, "hush")
    monkeypatch.setenv("PARLEY_PORT", "1")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    environment = engine_environment(VLLM_X="1")
    assert "hush" not in environment.values()
    assert environment["TOKENIZERS_PARALLELISM"] == "false"
    assert environment["VLLM_X"] == "1"
    assert "PATH" in environment


def test_the_hubs_token_is_the_settings_for_downloads_in_this_process(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "from the environment")
    use_hub_token(load_settings(home=home, hub_token="from a flag").hub_token)
    assert os.environ["HF_TOKEN"] == "from a flag"
    use_hub_token(None)
    assert os.environ["HF_TOKEN"] == "from a flag"


def test_an_empty_variable_is_one_that_is_not_set(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PARLEY_DATABASE_URL", "PARLEY_PORT", "PARLEY_DEVICE", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, "")
    assert load_settings(home=home).model_fields_set == {"home"}


def test_the_gateway_is_reached_on_loopback_when_it_listens_everywhere(home: Path) -> None:
    assert load_settings(home=home, host="0.0.0.0").gateway_url == "http://127.0.0.1:8000/v1"
    assert load_settings(home=home, host="::").gateway_url == "http://[::1]:8000/v1"
    assert load_settings(home=home, host="::1").gateway_url == "http://[::1]:8000/v1"


def test_every_setting_is_documented() -> None:
    page = (ROOT / "docs" / "settings.md").read_text()
    for name, field in Settings.model_fields.items():
        assert f"| `{name}` |" in page, f"docs/settings.md does not list {name}"
        assert field.description
        assert field.description in page, f"docs/settings.md says something else of {name}"
