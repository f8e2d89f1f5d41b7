"""A fake of OpenAI's files and uploads, with pages and OpenAI's errors."""

import hashlib
import time
from typing import Any

from tests.fakes.http_server import FakeServer, Handler, Refusal, Reply, Request
from tests.fakes.openai_jobs import ident

PART_MOST = 64 * 1024 * 1024


class FakeFiles(FakeServer):
    """An account's files and uploads; `page` is the page size."""

    def __init__(self, port: int = 0, page: int = 100) -> None:
        super().__init__(port)
        self.page = page
        self.files: dict[str, dict[str, Any]] = {}
        self.contents: dict[str, bytes] = {}
        self.uploads: dict[str, dict[str, Any]] = {}
        self.parts: dict[str, bytes] = {}

    def routes(self) -> list[tuple[str, str, Handler]]:
        """The routes of files and uploads."""
        file, upload = "/v1/files/([^/]+)", "/v1/uploads/([^/]+)"
        return [
            ("POST", "/v1/files", self.create_file),
            ("GET", "/v1/files", self.list_files),
            ("GET", file, lambda request, name: self._file(name)),
            ("DELETE", file, self.delete_file),
            ("GET", f"{file}/content", self.file_content),
            ("POST", "/v1/uploads", self.create_upload),
            ("POST", f"{upload}/parts", self.add_part),
            ("POST", f"{upload}/complete", self.complete_upload),
            ("POST", f"{upload}/cancel", self.cancel_upload),
        ]

    def create_file(self, request: Request) -> dict[str, Any]:
        """A file by multipart."""
        name, content = request.form.get("file") or (None, b"")
        purpose = request.form.get("purpose")
        if name is None:
            raise refused("'file' is a required property", param="file")
        return self._store(name, content, purpose, request.form.get("expires_after[seconds]"))

    def add_file(self, name: str, content: bytes, purpose: str = "fine-tune") -> str:
        """For tests: a file that is in the account already; its id."""
        with self.lock:
            return self._store(name, content, purpose)["id"]

    def list_files(self, request: Request) -> dict[str, Any]:
        """Newest first, unless order says otherwise."""
        found = [file for file in self.files.values() if request.query.get("purpose") in (None, file["purpose"])]
        return self._page(found if request.query.get("order") == "asc" else found[::-1], request, 10_000)

    def delete_file(self, request: Request, name: str) -> dict[str, Any]:
        """Takes it away with its bytes."""
        self._file(name)
        del self.files[name], self.contents[name]
        return {"id": name, "object": "file", "deleted": True}

    def file_content(self, request: Request, name: str) -> Reply:
        """Its bytes, or the rest from the beginning of a range on."""
        self._file(name)
        content, wanted = self.contents[name], request.headers.get("range", "")
        start = int(wanted.removeprefix("bytes=").rstrip("-") or 0)
        if not wanted:
            return Reply(content)
        if start >= len(content):
            return Reply({"error": {"message": "Range not satisfiable"}}, 416)
        place = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return Reply(content[start:], 206, {"content-range": place})

    def create_upload(self, request: Request) -> dict[str, Any]:
        """A large file begins."""
        asked = request.json()
        name = ident("upload_", len(self.uploads) + 1)
        self.uploads[name] = {
            "id": name,
            "object": "upload",
            "created_at": int(time.time()),
            "expires_at": int(time.time()) + 3600,
            "status": "pending",
            "file": None,
            **{key: asked[key] for key in ("filename", "purpose", "bytes")},
        }
        return self.uploads[name]

    def add_part(self, request: Request, name: str) -> dict[str, Any]:
        """One part, 64 MiB at most."""
        self._upload(name)
        content = request.form["data"][1]
        if len(content) > PART_MOST:
            raise refused("Part is larger than the maximum of 64 MB", param="data")
        part = ident("part_", len(self.parts) + 1)
        self.parts[part] = content
        return {"id": part, "object": "upload.part", "created_at": int(time.time()), "upload_id": name}

    def complete_upload(self, request: Request, name: str) -> dict[str, Any]:
        """The parts in the order that is given become a file."""
        upload, asked = self._upload(name), request.json()
        content = b"".join(self.parts[part] for part in asked["part_ids"])
        if len(content) != upload["bytes"]:
            raise refused(f"Expected {upload['bytes']} bytes but received {len(content)}", param="bytes")
        if asked.get("md5") and asked["md5"] != hashlib.md5(content).hexdigest():
            raise refused("The md5 checksum does not match", param="md5")
        upload |= {"status": "completed", "file": self._store(upload["filename"], content, upload["purpose"])}
        return upload

    def cancel_upload(self, request: Request, name: str) -> dict[str, Any]:
        """It is not wanted any more."""
        upload = self._upload(name)
        upload["status"] = "cancelled"
        return upload

    def _store(self, name: str, content: bytes, purpose: Any, expires: Any = None) -> dict[str, Any]:
        allowed = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals", "fine-tune-results")
        if purpose not in allowed:
            raise refused(f"'{purpose}' is not one of {list(allowed)} - 'purpose'", param="purpose")
        if purpose == "fine-tune" and not name.endswith(".jsonl"):
            text = f"Invalid file format for Fine-Tuning API. Must be .jsonl, got {name}"
            raise refused(text, code="invalid_file_format")
        if not content:
            raise refused("File is empty.", param="file")
        file_id = ident("file-", len(self.contents) + 1)
        now = int(time.time())
        self.contents[file_id] = content
        self.files[file_id] = {
            "id": file_id,
            "object": "file",
            "bytes": len(content),
            "created_at": now,
            "expires_at": now + int(expires) if expires else None,
            "filename": name,
            "purpose": purpose,
            "status": "processed",
            "status_details": None,
        }
        return self.files[file_id]

    def _file(self, name: str) -> dict[str, Any]:
        if name not in self.files:
            raise refused(f"No such File object: {name}", status=404, param="id")
        return self.files[name]

    def _upload(self, name: str) -> dict[str, Any]:
        if name not in self.uploads:
            raise refused(f"No such Upload object: {name}", status=404)
        if self.uploads[name]["status"] != "pending":
            raise refused(f"Upload is {self.uploads[name]['status']}", code="invalid_state")
        return self.uploads[name]

    def _page(self, rows: list[dict[str, Any]], request: Request, default: int = 20) -> dict[str, Any]:
        after, limit = request.query.get("after"), int(request.query.get("limit") or default)
        start = next((i + 1 for i, row in enumerate(rows) if row["id"] == after), 0)
        limit = min(limit, self.page)
        return {"object": "list", "data": rows[start : start + limit], "has_more": start + limit < len(rows)}


def refused(message: str, *, status: int = 400, code: str | None = None, param: str | None = None) -> Refusal:
    """An error in OpenAI's shape."""
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    return Refusal(status, {"error": error}, {"x-should-retry": "false"} if status < 500 else {})
