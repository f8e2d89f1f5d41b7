"""Everything as one file that any Python 3.9 or later runs: an archive of the modules, whatever its name ends in."""

from __future__ import annotations

import zipfile
from pathlib import Path

from models.openai_fetch.account import Stop
from models.openai_fetch.folder import translate_disk_errors

_PACKAGE = "models/openai_fetch"
_MAIN = "import sys\n\nfrom models.openai_fetch.command import main\n\nsys.exit(main(sys.argv[1:]))\n"
_SHEBANG = b"#!/usr/bin/env python3\n"


def write_single_file(target: Path) -> None:
    """Writes the file.

    Raises:
        Stop: this is itself such a file, or the target cannot be written.
    """
    here = Path(__file__).parent
    if not here.is_dir():
        raise Stop("This is already the single file: copy it.")
    with translate_disk_errors(target), target.open("wb") as file:
        file.write(_SHEBANG)
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("__main__.py", _MAIN)
            archive.writestr("models/__init__.py", "")
            archive.write(here.parent / "html_page.py", "models/html_page.py")
            for module in sorted(here.glob("*.py")):
                archive.write(module, f"{_PACKAGE}/{module.name}")
        target.chmod(0o755)
