"""HTTPS: a gateway with its own certificate, our client, and wrong files as one-line errors."""

import asyncio
import ssl
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from models.chat.completer import gateway_completer
from models.database import Database
from models.errors import Invalid, Unavailable
from models.home.instance import gateway_tls
from models.settings.settings import Settings, load_settings
from serve.launcher.preflight import check_tls
from tests.certificates import Pair, make_pair
from tests.serve.gateways import serving


@pytest.mark.long
def test_the_gateway_speaks_https_and_our_own_client_trusts_it_alone(
    home: Path, tmp_path: Path, database: Database, upstream
) -> None:
    ours, theirs = make_pair(tmp_path, "ours"), make_pair(tmp_path, "theirs")
    settings = load_settings(home=home, tls_certificate=ours.certificate, tls_key=ours.key)
    assert settings.gateway_url == "https://127.0.0.1:8000/v1"
    with serving(settings, database) as gateway:
        gateway.hosted("m", base_url=f"{upstream.address}/v1", model="normal")
        address = gateway.root.replace("http:", "https:")
        trust = ssl.create_default_context(cafile=str(ours.certificate))
        trust.check_hostname = False
        with urllib.request.urlopen(f"{address}/health", context=trust) as answer:
            assert answer.status == 200
        with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
            urllib.request.urlopen(f"{address}/health")
        with pytest.raises((urllib.error.URLError, ConnectionError)):
            urllib.request.urlopen(f"{gateway.root}/health", timeout=5)

        async def ask(chosen: Settings, *, many: bool) -> str:
            completer = gateway_completer(chosen, "m", retries=0, many=many)
            try:
                from models.chat.messages import Message

                return (await completer([Message(role="user", content="hi")])).text
            finally:
                await completer.close()

        mine = settings.model_copy(update={"port": gateway.port})
        assert all(asyncio.run(ask(load_settings(**dump(mine)), many=many)) for many in (False, True))
        for many in (False, True):
            with pytest.raises(Unavailable):
                asyncio.run(ask(load_settings(**dump(mine) | {"tls_certificate": theirs.certificate}), many=many))


def trusts(client: ssl.SSLContext | None, server: Pair, host: str) -> bool:
    """Whether a client accepts a server's certificate; both run in memory."""
    assert client is not None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.certificate, server.key)
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = client.wrap_bio(down, up, server_hostname=host), context.wrap_bio(up, down, server_side=True)
    for end in (*ends, *ends):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLCertVerificationError:
            return False
    return True


def test_no_other_certificate_of_the_same_issuer_is_trusted(home: Path, tmp_path: Path) -> None:
    authority = make_pair(tmp_path, "authority", host="authority")
    ours, theirs = (
        make_pair(tmp_path, name, issuer=authority, host=f"{name}.example.com") for name in ("ours", "theirs")
    )
    settings = load_settings(home=home, tls_certificate=ours.certificate, tls_key=ours.key)
    for address in (None, settings.gateway_url.removesuffix("/v1"), "https://localhost:8000"):
        local = gateway_tls(settings.model_copy(update={"gateway_address": address}))
        assert [trusts(local, pair, "127.0.0.1") for pair in (ours, theirs, authority)] == [True, False, False]


def test_on_another_host_the_name_counts(home: Path, tmp_path: Path) -> None:
    ours = make_pair(tmp_path, "ours")
    settings = load_settings(home=home, gateway_address="https://parley.example.com")
    assert gateway_tls(settings) is None  # the machine's certificate authorities
    remote = gateway_tls(settings.model_copy(update={"tls_certificate": ours.certificate}))
    assert [trusts(remote, ours, host) for host in ("parley.example.com", "127.0.0.1", "other.com")] == [
        True,
        False,
        False,
    ]
    (tmp_path / "empty.pem").touch()
    with pytest.raises(Unavailable, match="not in PEM format"):
        gateway_tls(settings.model_copy(update={"tls_certificate": tmp_path / "empty.pem"}))


def dump(settings: Settings) -> dict:
    return {name: getattr(settings, name) for name in ("home", "port", "tls_certificate", "tls_key")}


def test_wrong_files_are_one_line(home: Path, tmp_path: Path) -> None:
    ours, theirs = make_pair(tmp_path, "ours"), make_pair(tmp_path, "theirs")
    locked = make_pair(tmp_path, "locked", b"secret")
    (tmp_path / "empty.pem").touch()
    cases = [
        ({"tls_certificate": ours.certificate}, "tls_certificate is set without tls_key"),
        ({"page_tls_key": ours.key}, "page_tls_key is set without page_tls_certificate"),
        ({"tls_certificate": tmp_path / "none.pem", "tls_key": ours.key}, "none.pem cannot be read: No such file"),
        ({"tls_certificate": ours.certificate, "tls_key": theirs.key}, "key values mismatch"),
        ({"tls_certificate": tmp_path / "empty.pem", "tls_key": ours.key}, "are not a certificate and its key in PEM"),
        ({"tls_certificate": locked.certificate, "tls_key": locked.key}, "The TLS key is encrypted"),
    ]
    for given, message in cases:
        with pytest.raises(Invalid) as refused:
            check_tls(load_settings(home=home, **given), page=True)
        assert message in str(refused.value)
        assert "\n" not in str(refused.value)
    check_tls(load_settings(home=home, tls_certificate=ours.certificate, tls_key=ours.key), page=True)
    check_tls(load_settings(home=home, page_tls_key=ours.key), page=False)
