"""TLS to engines on other hosts: verified by one authority; wrong settings are one-line errors."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from models.errors import Invalid
from models.settings.settings import Settings, load_settings
from serve.fleet.engine_api import CertificateRejected, probe_generation
from serve.fleet.engine_launch import engine_command
from serve.fleet.vllm_command import Endpoint
from serve.launcher.preflight import check_tls
from serve.transport.engine_client import EnginePool, Unreachable
from serve.transport.engine_tls import engine_tls
from tests.certificates import Pair, make_pair
from tests.serve.test_engine_client import HEAD, Server, patient, writes
from tests.serve.test_engine_host import launch


@pytest.fixture
def authority(tmp_path: Path) -> Pair:
    return make_pair(tmp_path, "authority", host="authority.internal")


def with_tls(home: Path, pair: Pair, authority: Path) -> Settings:
    return load_settings(
        home=home, engine_tls_certificate=pair.certificate, engine_tls_key=pair.key, engine_tls_ca=authority
    )


@asynccontextmanager
async def engine(pair: Pair) -> AsyncIterator[str]:
    """The address of a server with a certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.certificate, pair.key)
    made = Server(writes(HEAD + b"content-length: 2\r\n\r\nok"))
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0, ssl=context)
    try:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def test_the_gateway_verifies_engines_by_the_authority(home: Path, tmp_path: Path, authority: Pair) -> None:
    good = make_pair(tmp_path, "good", host="127.0.0.1", issuer=authority)
    elsewhere = make_pair(tmp_path, "elsewhere", host="127.0.0.2", issuer=authority)
    foreign = make_pair(tmp_path, "foreign", host="127.0.0.1")
    tls = engine_tls(with_tls(home, good, authority.certificate))
    pool = EnginePool(patient(), idle_limit_s=30, tls=tls)
    try:
        async with engine(good) as address:
            for _ in range(2):  # the second on the same connection
                answer = await pool.post(f"{address}/v1", "/completions", b"{}", None)
                assert await answer.read() == b"ok"
                answer.release()
        for pair, reason in ((elsewhere, "IP address mismatch"), (foreign, "self-signed certificate")):
            async with engine(pair) as address, aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls)) as probe:
                with pytest.raises(Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
                    await pool.post(f"{address}/v1", "/completions", b"{}", None)
                with pytest.raises(CertificateRejected, match=f"has a TLS certificate that is rejected: .*{reason}"):
                    await probe_generation(probe, Endpoint(address, ""), "m", 5)
    finally:
        pool.close()


def test_an_engine_gets_the_certificate(home: Path) -> None:
    pair = (Path("/etc/parley/engine.pem"), Path("/etc/parley/engine.key"))
    plain = engine_command(launch(home), Endpoint("http://10.0.0.7:9000", "secret"))
    secure = engine_command(replace(launch(home), certificate=pair), Endpoint("https://10.0.0.7:9000", "secret"))
    added = ("--ssl-certfile", str(pair[0]), "--ssl-keyfile", str(pair[1]))
    assert secure.argv[: -len(added)] == plain.argv
    assert secure.argv[-len(added) :] == added


def test_incomplete_settings_are_refused(home: Path, tmp_path: Path, authority: Pair) -> None:
    assert engine_tls(load_settings(home=home)) is None
    with pytest.raises(Invalid, match="needs engine_tls_key and engine_tls_ca too"):
        check_tls(load_settings(home=home, engine_tls_certificate=authority.certificate), page=False)
    for content, reason in ((None, "No such file"), ("no certificate", "no certificates in PEM format")):
        path = tmp_path / "other.pem"
        if content is not None:
            path.write_text(content)
        with pytest.raises(Invalid, match=rf"engine_tls_ca: .*other.pem cannot be used: {reason}") as caught:
            check_tls(with_tls(home, authority, path), page=False)
        assert "\n" not in str(caught.value)
