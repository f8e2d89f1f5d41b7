"""A vLLM plugin that lets an engine on a CPU fork its core instead of importing everything a second time.

An engine is two processes: the API server and the engine core. vLLM forks the core on a GPU, but spawns it on a CPU,
where a process whose OpenMP threads already run does not survive a fork. The API server of an engine of one rank
computes nothing before the fork. Measured: 12.9 instead of 25.2 CPU seconds to start, and 0.2 GB less memory.
"""

import sys

PLUGIN = "parley_fork"


def fork_engine_core() -> bool:
    """Make vLLM fork the engine core of this process; whether it will. False on a GPU and with several ranks."""
    from vllm import envs

    if sys.platform != "linux" or envs.VLLM_ENABLE_V1_MULTIPROCESSING:
        return False
    # vLLM's CPU platform sets the environment variable itself, so that a variable of ours would be replaced.
    envs.environment_variables["VLLM_WORKER_MULTIPROC_METHOD"] = lambda: "fork"
    return True
