"""Checks of paths, headers and bodies before any route sees them."""

import json
import time

import orjson
import pydantic_core
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import Forbidden, Invalid
from models.http import json_bounds
from models.http.json_bounds import MAX_DEPTH, check_bounds
from serve.validation.request_checks import (
    MisdirectedRequest,
    UnsupportedMediaType,
    check_cross_site,
    check_head,
    parse_json,
)

CHAT = b"/v1/chat/completions"
JSON = (b"content-type", b"application/json")


def scope(raw: bytes = CHAT, *headers: tuple[bytes, bytes], method: str = "POST", path: str | None = None) -> dict:
    from urllib.parse import unquote

    shown = unquote(raw.decode("latin-1")) if path is None else path
    request_scope = {"type": "http", "method": method, "path": shown, "raw_path": raw, "headers": list(headers)}
    return request_scope | {"query_string": b""}


@pytest.mark.parametrize(
    "raw",
    [
        b"/",
        b"/health",
        b"/v1/models/base",
        b"/v1/models/org%2Fbase",
        b"/v1/models/org/base",
        b"/v1/models/ft:gpt-4o-mini:acme::abc",
        b"/v1/models/ft%3Agpt-4o%3Aacme%3A%3Aabc",
        b"/v1/models/with%20space",
        "/v1/models/modèle".encode().replace("è".encode(), b"%C3%A8"),
        b"/v1/files/file-abc/content",
        b"/v1/files/",
        b"/v1/models/v1.2..3",
    ],
)
def test_ordinary_paths_pass(raw: bytes) -> None:
    check_head(scope(raw, method="GET"))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"//",
        b"*",
        b"v1/models",
        b"//v1/models",
        b"/v1//models",
        b"/v1/./models",
        b"/v1/../metrics",
        b"/v1/models/..",
        b"/v1/%2e%2e/metrics",
        b"/v1/%2E%2E/metrics",
        b"/v1/models/a%2eb",
        b"/v1/models/..%2f..%2fmetrics",
        b"/v1/models/a%2F%2Fb",
        b"/v1/models/a%2F..%2Fb",
        b"/v1/files%2ffile-1",
        b"/v1%2fmodels",
        b"/v1/files/a%2Fb",
        b"/v1\\models",
        b"/v1/models/a\\b",
        b"/v1/models/a%5Cb",
        b"/v1/models/a%00",
        b"/v1/models/a%0d%0aset-cookie:x",
        b"/v1/models/a\x00b",
        b"/v1/models/a\x7fb",
        b"/v1/models/a%7f",
        b"/v1/models/%252e%252e",
        b"/v1/models/%zz",
        b"/v1/models/%2",
        b"/v1/models/%ff",
        "/v1/models/modèle".encode(),
        b"http://127.0.0.1/v1/models",
        b"/v1/models/<a>",
        b"/v1/models/" + b"a" * 3000,
    ],
)
def test_path_tricks_are_refused(raw: bytes) -> None:
    with pytest.raises(Invalid) as refused:
        check_head(scope(raw, method="GET"))
    assert refused.value.code == "invalid_url"


def test_a_path_that_is_read_in_two_ways_is_refused() -> None:
    for raw in (b"/v1/models/x", b"/v1/models/%41"):
        with pytest.raises(Invalid, match="ambiguous"):
            check_head(scope(raw, path="/metrics"))


@pytest.mark.parametrize(
    "headers",
    [
        [(b"content-length", b"3"), (b"transfer-encoding", b"chunked")],
        [(b"transfer-encoding", b"chunked"), (b"transfer-encoding", b"identity")],
        [(b"transfer-encoding", b"gzip, chunked")],
        [(b"transfer-encoding", b"\x0bchunked")],
        [(b"transfer-encoding", b"xchunked")],
        [(b"content-length", b"+3")],
        [(b"content-length", b"0x3")],
        [(b"content-length", b"3, 3")],
        [(b"content-length", b"")],
        [(b"content-length", b"9" * 40)],
        [(b"content_length", b"3")],
        [(b"host", b"a"), (b"host", b"b")],
        [(b"authorization", b"Bearer a"), (b"authorization", b"Bearer b")],
        [JSON, (b"content-type", b"text/plain")],
    ],
)
def test_header_smuggling_is_refused(headers: list) -> None:
    with pytest.raises(Invalid) as refused:
        check_head(scope(CHAT, *headers))
    assert refused.value.code == "invalid_header"


def test_headers_that_may_come_twice_may() -> None:
    check_head(scope(CHAT, (b"cookie", b"a"), (b"cookie", b"b"), JSON))
    check_head(scope(CHAT, (b"transfer-encoding", b"chunked"), JSON))


@pytest.mark.parametrize(
    "kind",
    [
        None,
        b"",
        b"application/json",
        b"application/json; charset=utf-8",
        b"Application/JSON",
        b"application/vnd.api+json",
        b"text/json",
    ],
)
def test_json_and_no_word_about_it_are_taken(kind: bytes | None) -> None:
    check_head(scope(CHAT, *([(b"content-type", kind)] if kind is not None else [])))


@pytest.mark.parametrize(
    "kind",
    [
        b"text/plain",
        b"application/x-www-form-urlencoded",
        b"multipart/form-data; boundary=x",
        b"application/xml",
        b"application/jsonl",
        b"x-application/json",
    ],
)
def test_other_kinds_of_body_are_415(kind: bytes) -> None:
    with pytest.raises(UnsupportedMediaType) as refused:
        check_head(scope(CHAT, (b"content-type", kind)))
    assert refused.value.status == 415


def test_forms_are_for_routes_that_are_not_relayed() -> None:
    form = (b"content-type", b"multipart/form-data; boundary=x")
    check_head(scope(b"/v1/files", form))
    check_head(scope(b"/v1/uploads/upload_1/parts", form))
    for kind in (b"text/plain", b"image/png"):
        with pytest.raises(UnsupportedMediaType, match="must be a form"):
            check_head(scope(b"/v1/files", (b"content-type", kind)))


@pytest.mark.parametrize("packed", [b"gzip", b"br", b"deflate", b"gzip, identity"])
def test_packed_bodies_are_415(packed: bytes) -> None:
    with pytest.raises(UnsupportedMediaType, match="Compressed"):
        check_head(scope(CHAT, JSON, (b"content-encoding", packed)))
    check_head(scope(CHAT, JSON, (b"content-encoding", b"identity")))


@pytest.mark.parametrize(
    "host",
    [b"localhost:8000", b"127.0.0.1:8000", b"[::1]:8000", b"127.1.2.3", b"parley", b"gateway:8000", b"a.localhost"],
)
def test_without_keys_names_that_nobody_else_has_are_answered(host: bytes) -> None:
    for headers in ([], [(b"origin", b"http://" + host)], [(b"origin", b"https://app.example")]):
        check_cross_site(scope(CHAT, (b"host", host), *headers), {b"https://app.example"})


@pytest.mark.parametrize(
    "host", [b"evil.example:8000", b"127.0.0.1.evil.example", b"localhost.evil.example", b"a.b", b"evil.example."]
)
def test_without_keys_names_that_may_lead_here_from_anywhere_are_not(host: bytes) -> None:
    with pytest.raises(MisdirectedRequest):
        check_cross_site(scope(CHAT, (b"host", host)), set())


@pytest.mark.parametrize("origin", [b"https://evil.example", b"null", b"http://localhost:3000", b"http://127.0.0.1"])
def test_without_keys_pages_of_other_sites_are_not_answered(origin: bytes) -> None:
    with pytest.raises(Forbidden):
        check_cross_site(scope(CHAT, (b"host", b"localhost:8000"), (b"origin", origin)), set())
    check_cross_site(scope(CHAT, (b"host", b"localhost:8000"), (b"origin", origin), method="GET"), set())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b"\xff",
        b'{"a":"\xff"}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":1e999}',
        b'{"a":"\\ud800"}',
        b"\xef\xbb\xbf{}",
        b'{"a":"\x00"}',
        b'{"a":' + b"9" * 5000 + b"}",
        b"{'a':1}",
        b'{"a":1}{"a":2}',
        b'{"a":1,}',
    ],
)
def test_what_is_no_json_object_is_400(body: bytes) -> None:
    with pytest.raises(Invalid) as refused:
        parse_json(body)
    assert len(str(refused.value)) < 200


def nested(levels: int, opening: bytes = b'{"a":', closing: bytes = b"}") -> bytes:
    """Levels of brackets, the outermost an object."""
    return b'{"a":' + opening * (levels - 1) + b"1" + closing * (levels - 1) + b"}"


@pytest.mark.parametrize(("opening", "closing"), [(b'{"a":', b"}"), (b"[", b"]"), (b' [ 1, "]" ,', b"]\n")])
def test_the_depth_is_bounded_exactly(opening: bytes, closing: bytes) -> None:
    assert parse_json(nested(MAX_DEPTH, opening, closing))
    for levels in (
        MAX_DEPTH + 1,
        2 * MAX_DEPTH - 1,
        2 * MAX_DEPTH,
        3 * MAX_DEPTH,
        100_000,
    ):
        with pytest.raises(Invalid, match="too deeply"):
            parse_json(nested(levels, opening, closing))


def test_brackets_in_text_are_no_depth() -> None:
    for text in ("[" * 1000, "{" * 100_000, '"' * 500 + "[" * 500, "\\" * 501 + "[" * 500, '\\"[' * 500):
        assert parse_json(json.dumps({"content": text}).encode()) == {"content": text}
    assert parse_json(orjson.dumps({"a": [[]] * 5000}))["a"]


_JSON_VALUES = st.recursive(
    st.none() | st.integers(-5, 5) | st.text(alphabet='[]{}\\"a,:', max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('[]{}\\"a', max_size=4), inner, max_size=3),
    max_leaves=30,
)


def depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


def units(value: object) -> int:
    """The cost of a value by the documented units: 1 a comma or colon, 3 a string, 8 a list or object."""
    if isinstance(value, dict):
        return 8 + max(len(value) - 1, 0) + sum(4 + units(inner) for inner in value.values())
    if isinstance(value, list):
        return 8 + max(len(value) - 1, 0) + sum(map(units, value))
    return 3 if isinstance(value, str) else 0


@given(_JSON_VALUES)
def test_depth_and_cost_are_those_of_the_parsed_value(value: object) -> None:
    outside = json_bounds._outside_of_strings(json.dumps(value).encode())
    assert json_bounds._depth(outside) == depth(value)
    assert json_bounds._units(outside) == units(value)
    assert json_bounds._units(orjson.dumps(value).translate(None, json_bounds._NO_STRUCTURE)) >= units(value)


MIB = 8 * 2**20
HOSTILE = {
    "opening brackets": b"[" * (MIB // 2) + b"]" * (MIB // 2),
    "nested lists": b",".join([b"[" * 120 + b"]" * 120] * 34_000),
    "empty objects": b",".join([b"{}"] * 2_700_000),
    "strings": b",".join([b'"a"'] * 2_000_000),
    "numbers": b",".join([b"1"] * 4_000_000),
    "keys": b"{" + b",".join([b'"k%d":1' % number for number in range(500_000)]) + b"}",
    "a string, then lists": b'"\\"' + b'", [] ,""' * 600_000,
    "escapes, then lists": b'"' + b'"' * 2_000_000 + b'",' + b",".join([b"[]"] * 1_000_000),
}


@pytest.mark.long
@pytest.mark.parametrize("shape", HOSTILE)
def test_a_costly_body_is_refused_before_it_is_parsed(shape: str) -> None:
    body = b'{"model":"m","messages":[' + HOSTILE[shape] + b"]}"
    began = time.thread_time()
    with pytest.raises(Invalid, match=r"too many values|nested too deeply"):
        parse_json(body)
    assert time.thread_time() - began < 0.3  # 0.02 to 0.06 s on an idle core; parsing took 0.4 to 6 s


def test_large_bodies_that_clients_send_are_accepted() -> None:
    message = {"role": "user", "content": 'a long, "quoted" text: {code: [1, 2]}\n' * 20}
    tool = {"type": "object", "properties": {f"p{n}": {"type": "string", "description": "d"} for n in range(40)}}
    for content in (
        {"messages": [message] * 4_000},
        {"input": [[1] * 1_000] * 300},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": tool}}] * 256},
        {"schema": {"enum": [f"value {number}" for number in range(20_000)]}},
        {"text": '{"a": [{"b": "c"}]}' * 100_000},
    ):
        assert parse_json(orjson.dumps(content)) == content


def test_of_a_key_that_comes_twice_every_parser_takes_the_last() -> None:
    # The parsers of the engine's FastAPI, of pydantic, and ours.
    body = b'{"n":1,"n":1000000,"chat_template":"{{ evil }}","chat_template":null,"chat_template":"x"}'
    assert json.loads(body) == pydantic_core.from_json(body) == parse_json(body)
    assert parse_json(body) == {"n": 1_000_000, "chat_template": "x"}


@pytest.mark.long
def test_names_that_are_escaped_are_read_as_what_they_are() -> None:
    assert parse_json(b'{"chat\\u005ftemplate":"x"}') == {"chat_template": "x"}


@pytest.mark.long
def test_an_ordinary_request_costs_next_to_nothing() -> None:
    headers = [JSON, (b"host", b"x"), (b"authorization", b"Bearer x"), (b"content-length", b"10")]
    headers += [(b"x-stainless-%d" % number, b"v") for number in range(12)]
    ordinary, body = scope(CHAT, *headers), orjson.dumps({"model": "m", "content": "hello world " * 33_000})

    def best(work, times: int) -> float:
        rounds = []
        for _ in range(5):
            began = time.perf_counter()
            for _ in range(times):
                work()
            rounds.append((time.perf_counter() - began) / times)
        return min(rounds)

    # About 1.3 µs and 13 µs on an idle core: the bounds leave room for busy ones.
    assert best(lambda: check_head(ordinary), 500) < 10e-6
    assert best(lambda: check_bounds(body), 20) < 150e-6
