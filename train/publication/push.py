"""Pushes a published model to a hub: the files to upload, the ones withheld, and the hub's errors in one line.

Files that name the user's data or folders are withheld: the run's record and the probes.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import Conflict, Invalid, ParleyError, Unauthorized, Unavailable
from models.registry.registry import Registry
from models.settings.settings import Settings
from models.spec import ModelSpec
from train.publication.cards import CARD, write_card
from train.publication.probes import PROBES

_REPO = re.compile(r"[\w.-]+/[\w.-]+")
_STAYS = ("training-*", PROBES, ".*", "*.log")


@dataclass(frozen=True)
class Push:
    """What will be pushed: files with their sizes in bytes; `stays` lists the withheld files."""

    spec: ModelSpec
    repo: str
    public: bool
    folder: Path
    files: tuple[tuple[str, int], ...]
    stays: tuple[str, ...]

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(size for _, size in self.files)


def prepare_push(name: str, repo: str, *, registry: Registry, settings: Settings, public: bool = False) -> Push:
    """Collects the files to push, and updates the model's card.

    Args:
        name: a published adapter or merged model, or a registered folder of weights with a card.
        repo: owner/name on the hub.

    Raises:
        NotFound: no such model. Invalid: it has no weights here or no card, or `repo` is not a repository name.
        Conflict: its parity check was refused.
    """
    spec = registry.resolve(name)
    if not _REPO.fullmatch(repo):
        raise Invalid(f"{repo!r} is not a repository name: use owner/name.", param="repo")
    folder = spec.folder
    if folder is None or not folder.is_dir():
        raise Invalid(f"{spec.id!r} has no weights on this machine, so it cannot be pushed.", param="model")
    if spec.parity is not None and spec.parity.refused:
        raise Conflict(f"{spec.id!r} was refused by its check and is not pushed: {spec.parity.refused}.")
    if folder.is_relative_to(settings.models_dir) and spec.kind in ("adapter", "merged"):
        write_card(folder, spec, registry)
    if not (folder / CARD).is_file():
        raise Invalid(f"{folder} has no card: write a {CARD} that describes the model, then push.", param="model")
    files, stays = [], []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            inside = path.relative_to(folder)
            if any(part.match(pattern) for part in (inside, *inside.parents) for pattern in _STAYS if part.name):
                stays.append(inside.as_posix())
            else:
                files.append((inside.as_posix(), path.stat().st_size))
    return Push(spec, repo, public, folder, tuple(files), tuple(stays))


def push(planned: Push, settings: Settings) -> str:
    """Creates the repository if it is missing, private unless `public`, and uploads all files in one commit.

    Returns:
        The repository's address.

    Raises:
        Unauthorized: no token, or one without write access. Unavailable: the hub cannot be reached. Invalid, Conflict:
        the hub refuses the repository, or it exists and is public while the push is private.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    token = settings.hub_token.get_secret_value() if settings.hub_token else None
    api = HfApi(token=token)
    try:
        repo = api.create_repo(planned.repo, private=not planned.public, exist_ok=True)
        if not planned.public and not api.model_info(repo.repo_id).private:
            raise Conflict(f"{planned.repo} exists and is public: push with --public, or to another repository.")
        api.upload_folder(
            repo_id=repo.repo_id,
            folder_path=planned.folder,
            allow_patterns=[name for name, _ in planned.files],
            commit_message=f"{planned.spec.id}, pushed by Parley",
        )
    except ParleyError:
        raise
    except Exception as error:  # of many classes, from HTTP to file locks
        raise _translate(error, planned.repo, api.endpoint) from error
    return str(repo)


def _translate(error: Exception, repo: str, hub: str) -> ParleyError:
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OfflineModeIsEnabled

    response: Any = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    reason = " ".join(str(error).split())[:300]
    match error:
        case LocalTokenNotFoundError():
            return Unauthorized("The hub needs a token: set HF_TOKEN to one with write access, or run `hf auth login`.")
        case OfflineModeIsEnabled():
            return Unavailable("HF_HUB_OFFLINE is set: unset it and push again.")
        case HFValidationError():
            return Invalid(f"{repo!r} is not a repository name on the hub: {reason}", param="repo")
        case HfHubHTTPError() if status == 401:
            return Unauthorized("The hub does not know this token: set HF_TOKEN to one with write access.")
        case HfHubHTTPError() if status == 403:
            return Unauthorized(f"This token may not write to {repo}: choose another owner, or another token.")
        case HfHubHTTPError() if status is not None:
            return Conflict(f"The hub refused {repo} ({status}): {reason}")
        case _:
            return Unavailable(f"The hub at {hub} cannot be reached: {reason or type(error).__name__}")
