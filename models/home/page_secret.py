"""The secret in $PARLEY_HOME that signs the page's cookies and links."""

import os
import secrets
from pathlib import Path

from models.errors import NoSpace, ParleyError


def page_secret(home: Path) -> str:
    """The secret that signs this home's cookies. The first call creates the file, readable by its owner only.

    Two processes that start together get the same secret: each writes a temporary file and links it into place, and
    the second link fails.

    Raises:
        ParleyError: the folder cannot be written, or the file is damaged.
    """
    path = home / "page-secret"
    if not path.exists():
        temporary = home / f".page-secret-{secrets.token_hex(8)}"
        try:
            home.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_urlsafe(48))
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(temporary, path)
            except FileExistsError:
                pass  # another process was first; its secret is used
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            raise NoSpace(
                f"cannot write {path}: {error.strerror}. Free some disk space or fix the folder's permissions."
            ) from error
    text = path.read_text().strip()
    if len(text) < 32:
        raise ParleyError(f"{path} is damaged. Delete it and restart; everyone has to sign in again.")
    return text
