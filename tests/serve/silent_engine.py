"""A program that takes an engine's command line, never gets ready, and ignores SIGTERM."""

import signal
import time

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(60)
