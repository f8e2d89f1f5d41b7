"""Settings: one frozen object, loaded at start and passed on. Only this file reads environment variables.

The first source that has a value wins: a flag, an environment variable (`PARLEY_PORT`), the file
`$PARLEY_HOME/parley.toml`, the default below. docs/settings.md repeats each description; a test compares them.
"""

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from models.errors import Invalid
from models.settings.addresses import checked_networks, checked_origins, local_address
from models.settings.home_folders import HomeFolders
from models.settings.secret_names import is_secret_name
from models.settings.settings_file import read_settings_file


class Settings(HomeFolders, BaseSettings):
    """All settings. Frozen; secrets are masked in repr."""

    model_config = SettingsConfigDict(
        env_prefix="PARLEY_",
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        populate_by_name=True,
        validate_default=True,
    )

    home: Path = Field(
        default=Path("~/.parley"),
        description="The folder for all state: database, models, files, runs, logs.",
    )
    database_url: SecretStr | None = Field(
        default=None,
        description="A PostgreSQL URL, postgresql://user:password@host/name. Without it: SQLite in the home.",
    )
    host: str = Field(
        default="127.0.0.1",
        description="The address the gateway listens on. Any address except loopback requires an API key.",
    )
    port: int = Field(default=8000, ge=1, le=65535, description="The gateway's port, for the OpenAI-compatible API.")
    gateway_workers: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Gateway processes on the port. They share limits, budgets and metrics.",
    )
    page_host: str = Field(
        default="127.0.0.1",
        description="The address the page listens on. Any address except loopback requires an API key.",
    )
    page_port: int = Field(default=7860, ge=1, le=65535, description="The page's port.")
    tls_certificate: Path | None = Field(
        default=None,
        description="A PEM file with the gateway's TLS certificate and its chain. The gateway then accepts HTTPS only.",
    )
    tls_key: Path | None = Field(default=None, description="A PEM file with the private key of `tls_certificate`.")
    page_tls_certificate: Path | None = Field(
        default=None,
        description="A PEM file with the page's TLS certificate and its chain. The page then accepts HTTPS only.",
    )
    page_tls_key: Path | None = Field(
        default=None, description="A PEM file with the private key of `page_tls_certificate`."
    )
    gateway_address: str | None = Field(
        default=None,
        pattern=r"^https?://[^\s/]+$",
        description="The gateway's address, such as http://gateway:8000, if it runs on another host.",
    )
    page_key: SecretStr | None = Field(
        default=None,
        description="The key with which page and worker call the gateway. `parley up` creates it if you set none.",
    )
    openai_api_key: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("openai_api_key", "PARLEY_OPENAI_API_KEY", "OPENAI_API_KEY"),
        description="OpenAI's API key, for `parley models import openai` and hosted models. Also OPENAI_API_KEY.",
    )
    openai_base_url: str = Field(
        default="https://api.openai.com/v1",
        validation_alias=AliasChoices("openai_base_url", "PARLEY_OPENAI_BASE_URL", "OPENAI_BASE_URL"),
        description="The address of OpenAI or a compatible API. Also OPENAI_BASE_URL.",
    )
    together_api_key: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("together_api_key", "PARLEY_TOGETHER_API_KEY", "TOGETHER_API_KEY"),
        description="Together AI's API key, for training and hosted models there. Also TOGETHER_API_KEY.",
    )
    together_base_url: str = Field(
        default="https://api.together.ai",
        validation_alias=AliasChoices("together_base_url", "PARLEY_TOGETHER_BASE_URL", "TOGETHER_BASE_URL"),
        description="Together AI's address, without /v1. Also TOGETHER_BASE_URL.",
    )
    organization: str = Field(
        default="parley",
        pattern=r"^[A-Za-z0-9_-]{1,64}$",
        description="The organization in names of fine-tuned models, ft:<base>:<organization>:<suffix>:<id>.",
    )
    fine_tuning_models: dict[str, str] = Field(
        default_factory=dict,
        description="Local models to which other providers' names are mapped, such as "
        '{"gpt-4o-mini" = "demo-base"}, in fine-tuning jobs, chat and lists. Programs can then keep their `model`. A '
        "model or alias of the same name takes precedence, except as the base of a fine-tuning job.",
    )
    unsandboxed_graders: bool = Field(
        default=False,
        description="Run Python graders of the evals API without bubblewrap where it is not available. They can then "
        "read and change everything that the server's user can.",
    )
    oidc_issuer: str | None = Field(
        default=None,
        pattern=r"^(https://|http://(127\.0\.0\.1|localhost)[:/])\S+$",
        description="The issuer of an OpenID Connect provider, such as https://login.example.com. Managers and viewers "
        "of campaigns can then sign in with the e-mail address that they were invited by.",
    )
    oidc_client_id: str | None = Field(default=None, description="The client id that the provider gave to this page.")
    oidc_client_secret: SecretStr | None = Field(
        default=None, description="The client secret that the provider gave to this page."
    )
    hub_token: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("hub_token", "PARLEY_HUB_TOKEN", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"),
        description="The Hugging Face token, for private and gated models and `parley models push`. Also HF_TOKEN.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="Where engines and training run; auto uses an NVIDIA GPU if there is one."
    )
    ray_address: str | None = Field(
        default=None,
        pattern=r"^(auto|ray://[^\s/:]+:\d+)$",
        description="The Ray cluster that engines run on: auto (the one of this machine), or ray://HOST:10001. Without "
        "it: this machine.",
    )
    engine_tls_certificate: Path | None = Field(
        default=None,
        description="A PEM file with the TLS certificate of engines on a Ray cluster. Every node needs it.",
    )
    engine_tls_key: Path | None = Field(
        default=None,
        description="A PEM file with the private key of `engine_tls_certificate`. Every node needs it.",
    )
    engine_tls_ca: Path | None = Field(
        default=None,
        description="A PEM file with the certificate authority that issued `engine_tls_certificate`. Every gateway's "
        "machine needs it.",
    )
    cpu_kv_cache_gib: float = Field(
        default=1.0, gt=0, description="GiB of memory for the KV caches of all engines on a CPU."
    )
    gpu_memory_share: float = Field(
        default=0.9,
        gt=0,
        le=1,
        description="The share of each GPU's memory that all its engines together may use.",
    )
    engine_memory_gib: float | None = Field(
        default=None,
        gt=0,
        description="GiB of memory for all engines on a CPU. Without it: the machine's free memory.",
    )
    drain_timeout_s: float = Field(
        default=60.0,
        ge=0,
        description="Seconds that an engine's running requests may take to finish before it is stopped.",
    )
    stop_grace_s: float = Field(
        default=15.0, ge=0, description="Seconds that running answers may take to finish when Parley stops."
    )
    engine_start_timeout_s: float = Field(
        default=300.0,
        gt=0,
        description="Seconds that an engine may take to become ready. While it makes progress (CPU, disk, log) it may "
        "take four times as long; then it is killed.",
    )
    engine_sleep_after_s: float | None = Field(
        default=None,
        gt=0,
        description="Seconds without a request after which an engine sleeps until the next one. Pinned engines never "
        "sleep. Without it: engines stop only to make room.",
    )
    queue_wait_s: float = Field(
        default=30.0, ge=0, description="Seconds that a request waits for a starting model before it gets a 503."
    )
    queue_size: int = Field(
        default=64, ge=1, description="Requests that may wait for one model; further ones get a 429."
    )
    batch_price_share: float = Field(
        default=0.5,
        ge=0,
        description="The share of a hosted model's prices that requests of a batch count with, in usage and budgets.",
    )
    batch_rows_beside_others: int | None = Field(
        default=None,
        ge=1,
        description="Requests of batches that run at once on an engine or hosted model while others use it. More "
        "finish batches sooner and delay the others. Without it: 16, or 128 on a machine with NVIDIA GPUs.",
    )
    client_files_mib: float = Field(
        default=2048.0,
        ge=0,
        description="MiB of files that one client's key may store, its batches' results included. 0: clients may not "
        "upload files.",
    )
    max_body_mib: float = Field(
        default=8.0, gt=0, description="Maximum size of a request body in MiB; a larger one gets a 413."
    )
    max_upload_mib: float = Field(
        default=8192.0,
        gt=0,
        description="Maximum size of an uploaded file in MiB, whole or in parts; a larger one gets a 413.",
    )
    running_per_model: int = Field(
        default=1024,
        ge=1,
        description="Requests that run at once on one engine or hosted model; further ones wait in its queue.",
    )
    max_bodies_mib: float = Field(
        default=256.0,
        gt=0,
        description="Maximum size of all request bodies in memory together, in MiB; beyond it a request gets a 429.",
    )
    connect_timeout_s: float = Field(
        default=5.0, gt=0, description="Seconds to establish a connection to an engine or upstream."
    )
    first_byte_timeout_s: float = Field(
        default=600.0,
        gt=0,
        description="Seconds until the first byte of an answer, or until a complete answer without streaming.",
    )
    idle_timeout_s: float = Field(
        default=300.0, gt=0, description="Seconds that an engine or upstream may be silent during an answer."
    )
    total_timeout_s: float = Field(default=3600.0, gt=0, description="Seconds from a request to the end of its answer.")
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Origins of web pages that may call the gateway from a browser, such as https://app.example.com. "
        "Comma-separated in an environment variable. Default: none.",
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Addresses or networks of reverse proxies whose X-Forwarded-For, -Host and -Proto headers are "
        "trusted, such as 127.0.0.1 or 10.0.0.0/8. Comma-separated in an environment variable. Default: none.",
    )
    store_completions: Literal["on_request", "all", "never"] = Field(
        default="on_request",
        description="Which chat completions the gateway stores with their requests: on_request, those with "
        "`store: true`; all, all except those with `store: false`; never, none, and no responses.",
    )
    store_responses: Literal["all", "on_request", "never"] = Field(
        default="all",
        description="Which responses (/v1/responses) the gateway stores: all, all except those with `store: false`, as "
        "OpenAI does; on_request, those with `store: true`; never, none, so that `previous_response_id` is refused.",
    )
    store_masked: bool = Field(
        default=False,
        description="Whether personal data and keys are replaced by placeholders in what is stored: in completions, "
        "responses, thumbs and feedback.",
    )
    completion_retention_days: int = Field(
        default=30,
        ge=0,
        le=36_500,
        description="After how many days a stored completion or response is deleted. 0: never.",
    )
    access_log: bool = Field(default=True, description="Whether the gateway logs each request to logs/access.log.")
    otel_endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://\S+$",
        validation_alias=AliasChoices("otel_endpoint", "PARLEY_OTEL_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        description="The address of an OpenTelemetry collector (OTLP over HTTP), such as http://127.0.0.1:4318. "
        "Without it: no telemetry. Also OTEL_EXPORTER_OTLP_ENDPOINT.",
    )
    otel_semconv_opt_in: str = Field(
        default="",
        validation_alias=AliasChoices(
            "otel_semconv_opt_in", "PARLEY_OTEL_SEMCONV_OPT_IN", "OTEL_SEMCONV_STABILITY_OPT_IN"
        ),
        description="Comma-separated semantic conventions to opt in to; gen_ai_latest_experimental selects the newest "
        "attribute names. Also OTEL_SEMCONV_STABILITY_OPT_IN.",
    )
    vote_repeat_share: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="The share of pairs that a rater sees again much later. It measures how far people agree with "
        "themselves; these votes count in no rating.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The log level of the gateway, the page and the worker."
    )

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _are_origins(cls, value: Any) -> Any:
        return checked_origins(value)

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _are_networks(cls, value: Any) -> Any:
        return checked_networks(value)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, then the environment, then the file in the home that these two name."""
        home = (init_settings().get("home")) or os.environ.get("PARLEY_HOME") or cls.model_fields["home"].default
        values = read_settings_file(Path(home).expanduser(), cls.model_fields)
        return init_settings, env_settings, _FileSource(settings_cls, values)

    def model_post_init(self, context: Any) -> None:
        # The model is frozen, so the one derived value is set around it, once.
        object.__setattr__(self, "home", self.home.expanduser().absolute())

    @property
    def longest_start_s(self) -> float:
        """Seconds after which a starting engine is killed even if it makes progress."""
        return 4 * self.engine_start_timeout_s

    @property
    def gateway_url(self) -> str:
        """The gateway's `base_url` for clients on this machine."""
        return f"{local_address(self.host, self.port, self.tls_certificate)}/v1"

    @property
    def page_url(self) -> str:
        """The page's address for browsers on this machine."""
        return local_address(self.page_host, self.page_port, self.page_tls_certificate)

    @property
    def database_address(self) -> str:
        """The database's SQLAlchemy URL. It includes the password: never show it."""
        if self.database_url is None:
            return f"sqlite:///{self.home / 'parley.db'}"
        address = self.database_url.get_secret_value()
        return re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", address)

    def credential(self, name: str) -> str | None:
        """An upstream's key by the name of its environment variable; None where that is not set."""
        if name == "OPENAI_API_KEY":
            return self.openai_api_key.get_secret_value() if self.openai_api_key else None
        if name == "TOGETHER_API_KEY":
            return self.together_api_key.get_secret_value() if self.together_api_key else None
        return os.environ.get(name)


class _FileSource(InitSettingsSource):
    """The values of `parley.toml`, below flags and environment."""


def load_settings(**flags: Any) -> Settings:
    """Loads the settings from flags (None is ignored), environment, file and defaults.

    Raises:
        Invalid: a wrong value; the message names the setting, the fault and the possible sources.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        return Settings(**given)
    except SettingsError as error:
        raise Invalid(
            'Setting fine_tuning_models: PARLEY_FINE_TUNING_MODELS must be JSON, {"name": "base"}.'
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "settings"
        field = name.lower().removeprefix("parley_")
        shown = f" ({first['input']!r})" if not is_secret_name(name) else ""
        raise Invalid(
            f"Setting {field}{shown}: {first['msg']}. It comes from a flag, PARLEY_{field.upper()} or parley.toml.",
            param=field,
        ) from error
