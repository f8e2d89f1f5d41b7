"""Builds `.venv`: checks the machine, chooses the CPU or NVIDIA build, installs the pinned packages, shows progress.

It runs before anything is installed, so it uses only the standard library and old syntax: an old Python must print a
message, not a SyntaxError. `make` calls it; see `python deploy/install.py --help`.
"""

from __future__ import print_function

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
LOG = os.path.join(ROOT, ".venv-install.log")
PYTHON = (3, 11)
NEEDED_GIB = {"cpu": 6, "gpu": 20}
# The source of PyTorch's CPU build if pip's configured index has none.
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"


class Refused(Exception):
    """An installation problem, in one line."""


def main():
    """Installs what the requirement files pin into `.venv`; does nothing if that is complete."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dev", action="store_true", help="also install what the checks and tests need")
    parser.add_argument(
        "--build", choices=["auto", "cpu", "gpu"], default="auto", help="auto: gpu if nvidia-smi finds one"
    )
    options = parser.parse_args()
    try:
        install(options.build, options.dev)
    except Refused as refusal:
        print("parley: %s" % refusal, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nparley: stopped; run it again to continue.", file=sys.stderr)
        return 130
    return 0


def install(build, dev):
    """Installs `build` ("cpu", "gpu" or "auto"), with the developer tools if `dev`."""
    check_python()
    if build == "auto":
        build = "gpu" if has_nvidia_gpu() else "cpu"
    groups = [build] + (["dev"] if dev else [])
    stamps = {name: os.path.join(VENV, ".installed-" + name) for name in groups}
    missing = [name for name in groups if read(stamps[name]) != fingerprint(name)]
    if not missing:
        return
    if build in missing:
        check_disk(NEEDED_GIB[build])
        make_venv()
    began = time.time()
    for name in missing:
        print(
            "Installing %s (%d packages; details in %s)"
            % (
                {"cpu": "the CPU build", "gpu": "the NVIDIA build", "dev": "the developer tools"}[name],
                len(packages(name)),
                os.path.relpath(LOG, ROOT),
            )
        )
        if name == "cpu":
            install_torch_cpu()
        pip(["-r", requirements(name)], packages(name))
        if name != "dev":
            pip(["--no-build-isolation", "--config-settings", "editable_mode=compat", "-e", ROOT], ["parley"])
        with open(stamps[name], "w") as stamp:
            stamp.write(fingerprint(name))
    print("Installed in %d s." % (time.time() - began))


def check_python():
    """Raises Refused for any Python version except the supported one."""
    if sys.version_info[:2] != PYTHON:
        raise Refused(
            "Parley needs Python %d.%d, but %s is %d.%d. Install it "
            "(Debian: apt-get install python3.11 python3.11-venv), or name one: make PYTHON=/path/to/python3.11 demo"
            % (PYTHON[0], PYTHON[1], sys.executable, sys.version_info[0], sys.version_info[1])
        )


def check_disk(gib):
    """Raises Refused if the disk has too little free space."""
    free = shutil.disk_usage(ROOT).free / 2.0**30
    if free < gib:
        raise Refused(
            "%s has %.1f GB free, but the installation needs %d. Free some space and try again." % (ROOT, free, gib)
        )


def has_nvidia_gpu():
    """Whether nvidia-smi lists a GPU."""
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return listed.returncode == 0 and b"GPU 0" in listed.stdout


def make_venv():
    """Creates `.venv`, unless a working one exists."""
    python = os.path.join(VENV, "bin", "python")
    if os.path.exists(python) and subprocess.call([python, "-m", "pip", "--version"], stdout=subprocess.DEVNULL) == 0:
        return
    command = [sys.executable, "-m", "venv", "--clear", VENV]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if result.returncode:
        raise Refused(
            "The virtual environment cannot be created: Python's venv module is missing or broken "
            "(Debian: apt-get install python3.11-venv)."
        )


def install_torch_cpu():
    """Installs PyTorch's CPU build from pip's configured index, or else from PyTorch's CPU index."""
    pin = [line for line in packages("cpu") if line.startswith("torch==")]
    try:
        pip(pin, pin)
    except Refused as refusal:
        if "no package" not in str(refusal):
            raise
        pip(["--extra-index-url", TORCH_CPU_INDEX, pin[0]], pin)


def pip(arguments, expected):
    """Runs pip and shows its progress on one line.

    Raises:
        Refused: pip failed; the message has the reason.
    """
    command = [
        os.path.join(VENV, "bin", "python"),
        "-m",
        "pip",
        "install",
        "--no-deps",
        "--no-input",
        "--disable-pip-version-check",
        "--progress-bar",
        "off",
    ]
    command.extend(arguments)
    lines = []
    with open(LOG, "a") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
        done = 0
        for line in process.stdout:
            log.write(line)
            lines.append(line.strip())
            package = re.match(r"(Collecting|Requirement already satisfied: |Obtaining) ?(\S+)", line)
            if package:
                done += 1
                show("  %d of %d  %s" % (done, len(expected), package.group(2).split("==")[0]))
            elif line.startswith("Installing collected"):
                show("  unpacking %d packages" % len(expected))
        process.wait()
    show(None)
    if process.returncode:
        raise Refused(reason(lines))


def reason(lines):
    """The reason for a failure, from pip's last lines, in one line."""
    text = "\n".join(lines[-40:])
    if "No space left" in text:
        return "The disk is full: free some space and try again."
    missing = re.search(r"No matching distribution found for (\S+)", text)
    if missing:
        return "There is no package %s in the index: see %s." % (missing.group(1), LOG)
    if re.search(r"connection|resolve|timed out|network|proxy", text, re.IGNORECASE):
        return "The package index cannot be reached: check the network, then try again (details: %s)." % LOG
    errors = [line for line in lines if line.startswith("ERROR")]
    return "The installation failed: %s (details: %s)." % (errors[-1] if errors else "pip gave no reason", LOG)


def show(line):
    """Updates one line on a terminal, or prints every 25th line elsewhere. None clears it."""
    if sys.stdout.isatty():
        sys.stdout.write("\r\033[K" + (line or ""))
    elif line and (line.startswith("  unpacking") or re.match(r"  \d*(00|25|50|75) of", line)):
        sys.stdout.write(line + "\n")
    sys.stdout.flush()


def requirements(name):
    """The path of a requirement file."""
    return os.path.join(ROOT, "requirements", name + ".txt")


def packages(name):
    """The pins of a requirement file, as `name==version`."""
    return [line.strip() for line in read(requirements(name)).splitlines() if line.strip() and not line.startswith("#")]


def fingerprint(name):
    """The fingerprint of an installation: the pins and pyproject.toml."""
    content = read(requirements(name)) + read(os.path.join(ROOT, "pyproject.toml")) * (name != "dev")
    return hashlib.sha256(content.encode("utf-8")).hexdigest()


def read(path):
    """A file's text; empty if it does not exist."""
    try:
        with open(path) as file:
            return file.read()
    except (IOError, OSError):
        return ""


if __name__ == "__main__":
    sys.exit(main())
