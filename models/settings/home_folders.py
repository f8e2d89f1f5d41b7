"""The folders in a home, as properties of the settings."""

from pathlib import Path


class HomeFolders:
    """The folders in the home of the class that inherits from this one."""

    home: Path

    @property
    def models_dir(self) -> Path:
        """The folder of published weights; each model's folder is named by a ULID."""
        return self.home / "models"

    @property
    def files_dir(self) -> Path:
        """The folder of uploaded files."""
        return self.home / "files"

    @property
    def batches_dir(self) -> Path:
        """The folder of running batches: input and journal of each."""
        return self.home / "batches"

    @property
    def runs_dir(self) -> Path:
        """The folder of training runs: config, metrics, checkpoints and log of each."""
        return self.home / "runs"

    @property
    def logs_dir(self) -> Path:
        """The folder of each process's log."""
        return self.home / "logs"
