"""A fake Hugging Face Hub: repositories, preupload, LFS uploads and commits, and downloads of given files.

It implements what huggingface_hub uses for `create_repo`, `upload_folder` and `snapshot_download` without Xet storage,
with one token for uploads.
"""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_of_the_fake"
_COMMIT = "c" * 40


@dataclass
class Hub:
    """What the fake has received: repositories with their privacy, and the files of the last commit. `published` has
    the files of repositories that may be downloaded, and `downloaded` the names of those that were.
    """

    url: str = ""
    repos: dict[str, bool] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    checked_cards: list[str] = field(default_factory=list)
    published: dict[str, dict[str, bytes]] = field(default_factory=dict)
    downloaded: list[str] = field(default_factory=list)


@contextmanager
def fake_hub() -> Iterator[Hub]:
    """The fake, listening on loopback."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # head and body are two writes: the second would wait 40 ms for a delayed ACK

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the base class calls it so
            return

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("authorization") != f"Bearer {TOKEN}":
                return self._answer(401, {"error": "Invalid user token."})
            if self.path == "/api/repos/create":
                return self._create(json.loads(body))
            if self.path == "/api/validate-yaml":
                hub.checked_cards.append(json.loads(body)["content"])
                return self._answer(200, {"errors": [], "warnings": []})
            if "/preupload/" in self.path:
                files = json.loads(body)["files"]
                modes = [
                    {"path": one["path"], "shouldIgnore": False, "oid": None, "uploadMode": self._mode(one["path"])}
                    for one in files
                ]
                return self._answer(200, {"files": modes})
            if self.path.endswith("/info/lfs/objects/batch"):
                objects = [
                    one | {"actions": {"upload": {"href": f"{hub.url}/store/{one['oid']}"}}}
                    for one in json.loads(body)["objects"]
                ]
                return self._answer(200, {"transfer": "basic", "objects": objects})
            if "/commit/" in self.path:
                return self._commit(body)
            return self._answer(404, {"error": f"the fake does not know {self.path}"})

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            repo = next((name for name in hub.published if f"/{name}/" in self.path), None)
            if repo is not None:
                return self._download(repo, self.path.partition(f"/{repo}/")[2].partition("?")[0])
            repo = self.path.removeprefix("/api/models/").partition("?")[0]
            if repo not in hub.repos:
                return self._answer(404, {"error": "Repository not found"})
            return self._answer(200, {"id": repo, "private": hub.repos[repo], "siblings": [], "tags": []})

        def _download(self, repo: str, what: str) -> None:
            files, kind = hub.published[repo], what.partition("/")[0]
            if kind == "revision":
                return self._answer(200, {"id": repo, "sha": _COMMIT, "siblings": [], "tags": []})
            if kind == "tree":
                sizes = [
                    {"type": "file", "path": name, "size": len(data), "oid": "0" * 40} for name, data in files.items()
                ]
                return self._answer(200, sizes)
            name = what.partition("/")[2].partition("/")[2]
            if name not in files:
                return self._answer(404, {"error": "Entry not found"})
            if self.command == "GET":
                hub.downloaded.append(name)
            self.send_response(200)
            headers = {"etag": f'"{name}"', "x-repo-commit": _COMMIT, "content-length": str(len(files[name]))}
            for key, value in headers.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(files[name])
            return None

        def do_PUT(self) -> None:
            hub.large[self.path.rpartition("/")[2]] = self.rfile.read(int(self.headers["content-length"]))
            self._answer(200, {})

        def _create(self, asked: dict[str, Any]) -> None:
            repo = f"{asked.get('organization') or 'me'}/{asked['name']}"
            if repo.startswith("forbidden/"):
                return self._answer(403, {"error": "You don't have the rights to create a model under this namespace"})
            if repo in hub.repos:
                return self._answer(409, {"error": "exists", "url": f"{hub.url}/{repo}"})
            hub.repos[repo] = asked.get("visibility") == "private"
            return self._answer(200, {"url": f"{hub.url}/{repo}", "name": repo})

        def _commit(self, body: bytes) -> None:
            for line in body.splitlines():
                item = json.loads(line)
                value = item["value"]
                if item["key"] == "file":
                    hub.files[value["path"]] = base64.b64decode(value["content"])
                elif item["key"] == "lfsFile":
                    hub.files[value["path"]] = hub.large[value["oid"]]
            self._answer(200, {"commitUrl": f"{hub.url}/me/repo/commit/abc", "commitOid": "abc"})

        @staticmethod
        def _mode(path: str) -> str:
            return "lfs" if path.endswith(".safetensors") else "regular"

        def _answer(self, status: int, body: Any) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
