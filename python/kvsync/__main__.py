"""Run the command line: `python -m kvsync`."""

from kvsync.cli import command

if __name__ == "__main__":
    command()
