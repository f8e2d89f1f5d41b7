"""Builds `.venv`: checks the machine, chooses the CPU or the NVIDIA build, installs the pinned packages, says how far.

It runs before anything is installed, so it uses the standard library alone, in the Python of any age: a Python that
is too old must get a line, not a SyntaxError. `make` calls it; `python deploy/install.py --help` explains it.
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
# Where a CPU build of PyTorch comes from when pip's own configuration has none.
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"


class Refused(Exception):
    """Why it cannot go on, in one line."""


def main():
    """Brings `.venv` to what the requirement files say; does nothing where it is there already."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dev", action="store_true", help="also what the checks and tests need")
    parser.add_argument(
        "--build", choices=["auto", "cpu", "gpu"], default="auto", help="auto: gpu where nvidia-smi answers"
    )
    options = parser.parse_args()
    try:
        install(options.build, options.dev)
    except Refused as refusal:
        print("parley: %s" % refusal, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nparley: stopped; run it again, it goes on where it was.", file=sys.stderr)
        return 130
    return 0


def install(build, dev):
    """Installs `build` ("cpu", "gpu" or "auto"), with the developer's tools where `dev`."""
    check_python()
    if build == "auto":
        build = "gpu" if has_nvidia_gpu() else "cpu"
    wanted = [build] + (["dev"] if dev else [])
    stamps = {name: os.path.join(VENV, ".installed-" + name) for name in wanted}
    missing = [name for name in wanted if read(stamps[name]) != fingerprint(name)]
    if not missing:
        return
    if build in missing:
        check_disk(NEEDED_GIB[build])
        make_venv()
    began = time.time()
    for name in missing:
        print(
            "Setting up %s (%d packages; the details are in %s)"
            % (
                {"cpu": "the CPU build", "gpu": "the NVIDIA build", "dev": "the developer's tools"}[name],
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
    print("Set up in %d s." % (time.time() - began))


def check_python():
    """Refuses any Python but the one that the builds are made for."""
    if sys.version_info[:2] != PYTHON:
        raise Refused(
            "Parley needs Python %d.%d, and %s is %d.%d. Install it "
            "(Debian: apt-get install python3.11 python3.11-venv), or name it: make PYTHON=/path/to/python3.11 demo"
            % (PYTHON[0], PYTHON[1], sys.executable, sys.version_info[0], sys.version_info[1])
        )


def check_disk(gib):
    """Refuses a disk that the installation would fill."""
    free = shutil.disk_usage(ROOT).free / 2.0**30
    if free < gib:
        raise Refused(
            "%s has %.1f GB free, the installation needs %d. Free some space and try again." % (ROOT, free, gib)
        )


def has_nvidia_gpu():
    """Whether nvidia-smi lists a GPU."""
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return listed.returncode == 0 and b"GPU 0" in listed.stdout


def make_venv():
    """A fresh `.venv`, or the one that is there when it works."""
    python = os.path.join(VENV, "bin", "python")
    if os.path.exists(python) and subprocess.call([python, "-m", "pip", "--version"], stdout=subprocess.DEVNULL) == 0:
        return
    command = [sys.executable, "-m", "venv", "--clear", VENV]
    made = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if made.returncode:
        raise Refused(
            "No virtual environment can be made: Python's venv module is missing or broken "
            "(Debian: apt-get install python3.11-venv)."
        )


def install_torch_cpu():
    """PyTorch's CPU build: from what pip is configured with, else from PyTorch's own CPU index."""
    pin = [line for line in packages("cpu") if line.startswith("torch==")]
    try:
        pip(pin, pin)
    except Refused as refusal:
        if "no package" not in str(refusal):
            raise
        pip(["--extra-index-url", TORCH_CPU_INDEX, pin[0]], pin)


def pip(arguments, expected):
    """Runs pip, and shows one line that moves instead of its own many.

    Raises:
        Refused: pip failed; the line says why in words.
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
            found = re.match(r"(Collecting|Requirement already satisfied: |Obtaining) ?(\S+)", line)
            if found:
                done += 1
                show("  %d of %d  %s" % (done, len(expected), found.group(2).split("==")[0]))
            elif line.startswith("Installing collected"):
                show("  unpacking %d packages" % len(expected))
        process.wait()
    show(None)
    if process.returncode:
        raise Refused(reason(lines))


def reason(lines):
    """What went wrong, from pip's last lines, in one line."""
    text = "\n".join(lines[-40:])
    if "No space left" in text:
        return "The disk is full: free some space and try again."
    missing = re.search(r"No matching distribution found for (\S+)", text)
    if missing:
        return "There is no package %s to be had here: see %s." % (missing.group(1), LOG)
    if re.search(r"connection|resolve|timed out|network|proxy", text, re.IGNORECASE):
        return "The package index cannot be reached: check the network, then try again (details: %s)." % LOG
    errors = [line for line in lines if line.startswith("ERROR")]
    return "The installation failed: %s (details: %s)." % (errors[-1] if errors else "pip gave no reason", LOG)


def show(line):
    """One moving line on a terminal; elsewhere every 25th. None ends it."""
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
    """What a finished installation is known by: the pins, and what pyproject.toml says of the package."""
    content = read(requirements(name)) + read(os.path.join(ROOT, "pyproject.toml")) * (name != "dev")
    return hashlib.sha256(content.encode("utf-8")).hexdigest()


def read(path):
    """A file's text; empty where there is none."""
    try:
        with open(path) as file:
            return file.read()
    except (IOError, OSError):
        return ""


if __name__ == "__main__":
    sys.exit(main())
