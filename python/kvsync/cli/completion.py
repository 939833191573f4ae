"""`kvsync completion`: print the script that completes commands and options in a shell."""

from typing import Annotated, Literal

from kvsync.cli.exitcodes import DONE
from kvsync.cli.options import Option
from kvsync.cli.output import Output, write_bytes
from kvsync.cli.sync import PLAIN

__all__ = ["completion"]


def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], Option(help="The shell.")], /, *, output: Output = PLAIN
) -> int:
    """Print the script that completes commands and options in a shell.

    For bash: kvsync completion bash > ~/.local/share/bash-completion/completions/kvsync
    """
    from kvsync.cli.app import app  # noqa: PLC0415 - the parser loads all commands, this one too

    script = app.generate_completion(shell=shell)
    if shell == "bash":  # what is no command or option is the name of a file
        script = script.replace("complete -F ", "complete -o default -F ")
    output.result({"shell": shell, "script": script})
    if not output.json:
        write_bytes(script.encode())
    return DONE
