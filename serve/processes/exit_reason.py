"""Why a program ended, in words: its exit status, or the signal that ended it or one of its processes."""

import signal

# What Python's fault handler writes to the log of a process that one of these signals ends.
_FAULTS = {
    "Illegal instruction": signal.SIGILL,
    "Segmentation fault": signal.SIGSEGV,
    "Floating-point exception": signal.SIGFPE,
    "Floating point exception": signal.SIGFPE,
    "Bus error": signal.SIGBUS,
    "Aborted": signal.SIGABRT,
}
_PREFIX = "Fatal Python error: "


def exit_reason(code: int, log: str) -> str:
    """A phrase to put behind the program's name, such as "was ended by SIGKILL (Killed)" or "ended with status 3".

    `code`: the exit status, 128 + the signal where one ended the program. `log`: what this run wrote. A program whose
    child was ended by a signal may exit with status 0; the child's fault handler then tells the signal.
    """
    if (number := code - 128) > 0 and number in set(signal.Signals):
        return f"was ended by {_name(signal.Signals(number))}"
    for name, fault in _FAULTS.items():
        if f"{_PREFIX}{name}" in log:
            return f"lost a process, ended by {_name(fault)}"
    return f"ended with status {code}"


def _name(number: signal.Signals) -> str:
    return f"{number.name} ({signal.strsignal(number)})"
