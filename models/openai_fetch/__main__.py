"""`python -m models.openai_fetch`."""

import sys

from models.openai_fetch.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
