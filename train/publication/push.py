"""Takes a published model to a hub: which files go, which stay at home, and what the hub says, in one line.

What names the user's data or folders stays: the run's record, the probes. It knows huggingface_hub, and no weights.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import Conflict, Invalid, ParleyError, Unauthorized, Unavailable
from models.registry import Registry
from models.settings import Settings
from models.spec import ModelSpec
from train.publication.cards import CARD, write_card
from train.publication.probes import PROBES

_REPO = re.compile(r"[\w.-]+/[\w.-]+")
_STAYS = ("training-*", PROBES, ".*", "*.log")


@dataclass(frozen=True)
class Push:
    """What will be pushed: files with their sizes in bytes, and the files of the folder that stay at home."""

    spec: ModelSpec
    repo: str
    public: bool
    folder: Path
    files: tuple[tuple[str, int], ...]
    stays: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(size for _, size in self.files)


def prepare_push(name: str, repo: str, *, registry: Registry, settings: Settings, public: bool = False) -> Push:
    """Looks at what would be pushed, and writes the model's card anew, with what is known of it by now.

    Args:
        name: a published adapter or merged model, or a folder of weights that has a card of its own.
        repo: owner/name on the hub.

    Raises:
        NotFound: no such model. Invalid: it has no weights here, no card, or `repo` is no repository's name.
        Conflict: its weights do not say what its training made.
    """
    spec = registry.resolve(name)
    if not _REPO.fullmatch(repo):
        raise Invalid(f"{repo!r} is no repository: write owner/name.", param="repo")
    folder = spec.folder
    if folder is None or not folder.is_dir():
        raise Invalid(f"{spec.id!r} has no weights on this machine: there is nothing to push.", param="model")
    if spec.parity is not None and spec.parity.refused:
        raise Conflict(f"{spec.id!r} was refused by its check and is not pushed: {spec.parity.refused}.")
    if folder.is_relative_to(settings.models_dir) and spec.kind in ("adapter", "merged"):
        write_card(folder, spec, registry)
    if not (folder / CARD).is_file():
        raise Invalid(f"{folder} has no card: write a {CARD} that says what the model is, then push.", param="model")
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
    """Makes the repository where it is missing, private unless `public`, and uploads all files in one commit.

    Returns:
        The repository's address.

    Raises:
        Unauthorized: no token, or one that may not. Unavailable: the hub cannot be reached. Invalid, Conflict: the hub
        refuses the repository, or it is there, public, and the push is not.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    token = settings.hub_token.get_secret_value() if settings.hub_token else None
    api = HfApi(token=token)
    try:
        made = api.create_repo(planned.repo, private=not planned.public, exist_ok=True)
        if not planned.public and not api.model_info(made.repo_id).private:
            raise Conflict(f"{planned.repo} is there already, and everybody sees it: push with --public, or elsewhere.")
        api.upload_folder(
            repo_id=made.repo_id,
            folder_path=planned.folder,
            allow_patterns=[name for name, _ in planned.files],
            commit_message=f"{planned.spec.id}, pushed by Parley",
        )
    except ParleyError:
        raise
    except Exception as error:  # of many classes, from HTTP to file locks: each is told in one line
        raise _told(error, planned.repo, api.endpoint) from error
    return str(made)


def _told(error: Exception, repo: str, hub: str) -> ParleyError:
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OfflineModeIsEnabled

    response: Any = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    reason = " ".join(str(error).split())[:300]
    match error:
        case LocalTokenNotFoundError():
            return Unauthorized("The hub needs a token: set HF_TOKEN to one that may write, or `hf auth login`.")
        case OfflineModeIsEnabled():
            return Unavailable("HF_HUB_OFFLINE is set, so the hub is not asked: unset it and push again.")
        case HFValidationError():
            return Invalid(f"{repo!r} is no repository's name on the hub: {reason}", param="repo")
        case HfHubHTTPError() if status == 401:
            return Unauthorized("The hub knows no such token: set HF_TOKEN to one that may write.")
        case HfHubHTTPError() if status == 403:
            return Unauthorized(f"This token may not write to {repo}: choose another owner, or another token.")
        case HfHubHTTPError() if status is not None:
            return Conflict(f"The hub refused {repo} ({status}): {reason}")
        case _:
            return Unavailable(f"The hub at {hub} cannot be reached: {reason or type(error).__name__}")
