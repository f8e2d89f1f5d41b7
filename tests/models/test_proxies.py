"""Which proxies' X-Forwarded-* headers are trusted."""

from typing import Any

import pytest

from models.errors import Invalid
from models.http.proxies import TrustedProxies
from models.settings.settings import load_settings

FORWARDED = [
    (b"x-forwarded-for", b"6.6.6.6, 203.0.113.7, 10.0.0.9"), (b"x-forwarded-host", b"parley.example"),
    (b"x-forwarded-proto", b"https"),
]  # fmt: skip


def applied(client: str, networks: tuple[str, ...]) -> dict[str, Any]:
    scope: dict[str, Any] = {"headers": [(b"host", b"inner:7860"), *FORWARDED], "client": (client, 1), "scheme": "http"}
    TrustedProxies(networks).apply(scope)
    return scope


def test_by_default_no_proxy_is_trusted() -> None:
    scope = applied("127.0.0.1", load_settings().trusted_proxies)
    assert scope == {"headers": [(b"host", b"inner:7860")], "client": ("127.0.0.1", 1), "scheme": "http"}


@pytest.mark.parametrize("client", ["10.0.0.1", "::ffff:10.0.0.1"])
def test_a_trusted_proxy_reports_client_host_and_scheme(client: str) -> None:
    scope = applied(client, ("10.0.0.0/8",))
    # 6.6.6.6 was sent by 203.0.113.7 itself, and 10.0.0.9 is a proxy of ours.
    assert scope == {"headers": [(b"host", b"parley.example")], "client": ("203.0.113.7", 0), "scheme": "https"}


@pytest.mark.parametrize("client", ["11.0.0.1", "unknown"])
def test_headers_of_untrusted_clients_are_ignored(client: str) -> None:
    assert applied(client, ("10.0.0.0/8",))["headers"] == [(b"host", b"inner:7860")]


def test_the_setting_takes_addresses_and_networks() -> None:
    assert load_settings(trusted_proxies="127.0.0.1, 10.0.0.0/8").trusted_proxies == ("127.0.0.1", "10.0.0.0/8")
    for value in ("proxy.example", "10.0.0.1/8", "*"):
        with pytest.raises(Invalid, match="neither an address nor a network"):
            load_settings(trusted_proxies=value)
