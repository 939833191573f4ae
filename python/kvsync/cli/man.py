"""`kvsync man`: print the manual page, made of the same words as the help."""

import re
from collections.abc import Iterator
from typing import Any

from kvsync.cli.exitcodes import DONE
from kvsync.cli.output import Output, write_bytes
from kvsync.cli.sync import PLAIN
from kvsync.cli.verbs import VERBS, function_of, version_text

__all__ = ["man"]


def man(*, output: Output = PLAIN) -> int:
    """Print the manual page.

    To install it: kvsync man > ~/.local/share/man/man1/kvsync.1
    """
    from kvsync.cli.app import app  # noqa: PLC0415 - the parser loads all commands, this one too

    page = "\n".join(_page(app)) + "\n"
    output.result({"page": page})
    if not output.json:
        write_bytes(page.encode())
    return DONE


def _page(app: Any) -> Iterator[str]:
    yield f'.TH KVSYNC 1 "" "{_text(version_text())}" "User Commands"'
    about, *more = app.help.split("\n\n")
    yield from (".SH NAME", rf"kvsync \- {_text(about)}")
    yield from (".SH SYNOPSIS", ".B kvsync", ".I COMMAND", "[\\fIOPTIONS\\fR] [\\fIARGUMENTS\\fR]")
    yield ".SH DESCRIPTION"
    yield from _paragraphs(more)
    yield ".SH COMMANDS"
    for verb in VERBS:
        yield from _command(verb, app[verb])
    yield ".SH EXIT STATUS"
    yield from _paragraphs([app.help_epilogue])


def _command(verb: str, command: Any) -> Iterator[str]:
    arguments = list(command.assemble_argument_collection())
    shown = [each for each in arguments if each.show]
    places = VERBS[verb] or " ".join(each.name for each in shown if not each.name.startswith("-"))
    yield rf".SS kvsync {verb} [\fIOPTIONS\fR] {_text(places)}".rstrip()
    yield from _paragraphs((function_of(verb).__doc__ or "").split("\n\n"))
    for each in shown:
        yield from (".TP", rf"\fB{_text(', '.join(each.names))}\fR{_value(each)}", _text(each.parameter.help or ""))


def _value(argument: Any) -> str:
    """Return what follows an option."""
    if not argument.name.startswith("-") or argument.hint is bool or bool in getattr(argument.hint, "__args__", ()):
        return ""
    return rf" \fI{_text(argument.name.lstrip('-').upper())}\fR"


def _paragraphs(texts: list[str]) -> Iterator[str]:
    for text in texts:
        if words := " ".join(text.split()):
            yield from (".PP", _text(words))


def _text(text: str) -> str:
    """Return text so that nothing in it is taken for a request or an escape of roff."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq")
    return re.sub(r"^\.", r"\\&.", escaped, flags=re.MULTILINE)
