"""Run the command line: `python -m kvsync`."""

import sys

from kvsync.cli import main

if __name__ == "__main__":
    sys.exit(main())
