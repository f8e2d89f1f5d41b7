"""Builds `.ray`: Ray in a virtual environment that also sees everything in `.venv`.

`make test-cluster` calls it; a complete environment is kept. Parley itself does not need it: `pip install
'parley[ray]'` adds Ray to an installation.
"""

import sys
import sysconfig
from pathlib import Path

from clients import (  # type: ignore[import-not-found] -- the program beside this one
    install_python,
    run_installation,
)

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Installs the pinned packages into `.ray`; returns the exit status."""
    return run_installation(_install)


def _install() -> None:
    folder = ROOT / ".ray"
    install_python(folder, ROOT / "requirements" / "cluster.txt", "the cluster's tests")
    packages = folder / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    # Its own packages come first, then the checkout, then those of the environment that runs this.
    (packages / "parley.pth").write_text(f"{ROOT}\n{sysconfig.get_path('purelib')}\n")


if __name__ == "__main__":
    sys.exit(main())
