"""Sends GET requests to the API, and nothing else: objects, lists page by page, contents of files."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import random
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from models.openai_fetch.account import Account, Record, Refusal, Stop, printable
from models.openai_fetch.folder import translate_disk_errors
from models.openai_fetch.progress import Progress

_PIECE = 2**20
_PAGE = 100
_TIMEOUT_S = 60.0
_LONGEST_WAIT_S = 300.0
_REPORTED_WAIT_S = 5.0
_AGAIN = "Check the network, and run the same command again to continue."
_UNREACHABLE = 3  # requests in a row without an answer, after which the network is taken to be down


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """urllib would send the key to any host that it is redirected to."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> None:
        """None, so that the redirect becomes an HTTPError."""


class Client:
    """The API of an account; threads may share it. `halt` ends its requests and waits.

    Proxies are those of the environment (HTTPS_PROXY, NO_PROXY). A request is repeated at most `attempts` times.
    """

    def __init__(self, account: Account, progress: Progress, *, attempts: int = 6) -> None:
        self.halt = threading.Event()
        self._headers, self._base, self._key = account.headers(), account.base_url.rstrip("/"), account.key
        self._progress, self._attempts, self._unanswered = progress, attempts, 0
        bundle = account.ca_bundle
        folder = bundle if bundle and os.path.isdir(bundle) else None
        try:
            context = ssl.create_default_context(cafile=None if folder else bundle, capath=folder)
        except OSError as error:
            raise Stop(f"The certificates in {bundle} cannot be read: {error.strerror or error}.") from None
        self._opener = urllib.request.build_opener(_NoRedirects, urllib.request.HTTPSHandler(context=context))

    def get(self, path: str, query: dict[str, str] | None = None) -> Record:
        """The JSON object at a path. Raises Refusal."""

        def read() -> Record:
            with self._open(path + (f"?{urlencode(query)}" if query else ""), {}) as response:
                value = json.loads(response.read())
            if not isinstance(value, dict):
                raise Refusal("the answer is not an object of the API", 200)
            return value

        return self._repeated(read)

    def items(self, path: str) -> Iterator[Record]:
        """The objects of a list, page after page. Raises Refusal."""
        query, seen = {"limit": str(_PAGE)}, set()
        while True:
            page = self.get(path, query)
            data = page.get("data")
            if not isinstance(data, list) or not all(isinstance(one, dict) and one.get("id") for one in data):
                raise Refusal("the answer is not a list of objects with ids", 200)
            new = [one for one in data if str(one["id"]) not in seen]
            seen.update(str(one["id"]) for one in new)
            yield from new
            if not page.get("has_more"):
                return
            if not new:
                raise Refusal("the list repeats itself, so it has no end", 200)
            query["after"] = str(new[-1]["id"])

    def download(self, path: str, target: Path, size: int | None) -> Record:
        """Streams a content of `size` bytes (None: unknown) to a file; continues the partial file of an earlier run.

        Returns:
            The content's `bytes` and `sha256`.

        Raises:
            Refusal: it cannot be fetched. Stop: the disk is full.
        """
        part = target.with_name(f"{target.name}.part")
        with translate_disk_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
        fetched = self._repeated(lambda: self._download_rest(path, part, size))
        with translate_disk_errors(target):
            os.replace(part, target)
        return fetched

    def _download_rest(self, path: str, part: Path, size: int | None) -> Record:
        digest, have = _hash_part(part)
        resumed = have > 0
        try:
            response = self._open(path, {"Range": f"bytes={have}-"} if have else {})
        except Refusal as refusal:
            if refusal.status != 416:  # nothing follows what is there
                raise
            response = self._open(path, {})
        with response:
            if not (response.headers.get("Content-Range") or "").startswith(f"bytes {have}-"):
                digest, have, resumed = hashlib.sha256(), 0, False
            length = response.headers.get("Content-Length")
            due = size if length is None else have + int(length)
            with translate_disk_errors(part), part.open("r+b" if have else "wb") as file:
                file.truncate(have)
                file.seek(have)
                for piece in self._pieces(response):
                    file.write(piece)
                    digest.update(piece)
                    have += len(piece)
                    self._progress.add_bytes(len(piece))
                file.flush()
                os.fsync(file.fileno())
        if due is not None and have < due:
            raise http.client.HTTPException(f"it ended after {have:,} of {due:,} bytes")
        if resumed and size is not None and have != size:
            with translate_disk_errors(part):
                part.unlink()
            raise http.client.HTTPException("the earlier part was not of this content")
        return {"bytes": have, "sha256": digest.hexdigest()}

    def _pieces(self, response: Any) -> Iterator[bytes]:
        while not self.halt.is_set():
            try:
                piece = response.read(_PIECE)
            except OSError as error:  # as it is, it would be taken for an error of the disk
                raise http.client.HTTPException(f"{type(error).__name__} {error}") from None
            if not piece:
                return
            yield piece
        raise KeyboardInterrupt

    def _open(self, path: str, headers: dict[str, str]) -> Any:
        """The response to one request. Raises Refusal for an error status."""
        address = f"{self._base}{path}"
        request = urllib.request.Request(address, headers={**self._headers, **headers})  # noqa: S310 -- Account checks it
        try:
            response = self._opener.open(request, timeout=_TIMEOUT_S)
        except urllib.error.HTTPError as error:
            self._unanswered = 0
            raise self._refusal(error) from None
        self._unanswered = 0
        return response

    def _refusal(self, error: urllib.error.HTTPError) -> Refusal:
        text, code = str(error.reason), ""
        with error, suppress(OSError, ValueError, http.client.HTTPException):
            body = json.loads(error.read(_PIECE))
            inner = body.get("error") if isinstance(body, dict) else None
            if isinstance(inner, dict):
                text, code = str(inner.get("message") or text), str(inner.get("code") or "")
        if code == "invalid_api_key":
            raise Stop(f"OpenAI refuses the key: {self._safe(text)}")
        if 300 <= error.code < 400:
            text = "the server redirects to another address, which must not get the key"
        again = error.code in (408, 409, 429) or error.code >= 500
        if error.headers.get("x-should-retry") == "false" or code == "insufficient_quota":
            again = False
        return Refusal(f"{error.code} {self._safe(text)}", error.code, again=again, wait=_retry_after(error.headers))

    def _repeated(self, work: Callable[[], Record]) -> Record:
        attempt = 0
        while True:
            attempt += 1
            try:
                return work()
            except Refusal as error:
                if not error.again or attempt == self._attempts:
                    raise
                cause, wait = str(error), error.wait
            except (http.client.HTTPException, OSError, ValueError, RecursionError) as error:
                cause, wait = self._broken(error, last=attempt == self._attempts), None
            if wait is None:
                wait = random.uniform(0.25, 0.5) * 2.0**attempt  # noqa: S311 -- so that threads do not ask at once
            if wait > _REPORTED_WAIT_S:
                self._progress.note(f"{cause}: waiting {min(wait, _LONGEST_WAIT_S):.0f} s")
            if self.halt.wait(min(wait, _LONGEST_WAIT_S)):
                raise KeyboardInterrupt

    def _broken(self, error: Exception, *, last: bool) -> str:
        """Why no whole answer came. Raises Stop if no more can be expected, and Refusal after the last attempt."""
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLCertVerificationError):
            text = f"The server's certificate is not trusted ({reason.verify_message}). Set SSL_CERT_FILE to a file"
            raise Stop(f"{text} with the certificate of its authority.") from None
        cause = self._safe(f"{type(reason).__name__}: {reason}")
        if not last:
            return cause
        self._unanswered += 1
        if self._unanswered >= _UNREACHABLE:
            raise Stop(f"{urlsplit(self._base).hostname} does not answer ({cause}). {_AGAIN}") from None
        raise Refusal(f"no whole answer ({cause})") from None

    def _safe(self, text: str) -> str:
        return printable(text.replace(self._key, "[key]"))


def _hash_part(part: Path) -> tuple[Any, int]:
    """The hash and the size of a partial file; 0 bytes if there is none."""
    digest, size = hashlib.sha256(), 0
    if not part.is_file():
        return digest, size
    with translate_disk_errors(part), part.open("rb") as file:
        for piece in iter(lambda: file.read(_PIECE), b""):
            digest.update(piece)
            size += len(piece)
    return digest, size


def _retry_after(headers: Any) -> float | None:
    """The seconds that a server asks to wait."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        with suppress(TypeError, ValueError):
            return max(0.0, float(headers.get(name)) / unit)
    with suppress(TypeError, ValueError, IndexError):
        return max(0.0, parsedate_to_datetime(headers.get("retry-after")).timestamp() - time.time())
    return None
