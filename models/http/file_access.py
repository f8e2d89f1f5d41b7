"""On behalf of which key a request to a mounted route uses files and batches."""

from typing import TYPE_CHECKING

from models.files.stored_files import FileAccess

if TYPE_CHECKING:
    from starlette.requests import Request


def file_access(request: "Request") -> FileAccess:
    """A client's key uses only what it has stored; an owner's key, and a request where no key is needed, everything."""
    key = request.state.key
    return FileAccess() if key is None else FileAccess(key.id, own_only=key.role != "owner")
