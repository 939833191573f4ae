"""The parser of command lines: it prints the help, and says what is wrong with a command line.

It takes longer to load than most runs take, so `kvsync.cli.plain` handles command lines that need neither.
"""

from __future__ import annotations

from dataclasses import is_dataclass
from typing import Annotated, Any, get_type_hints

from cyclopts import App, Parameter

from kvsync.cli.options import Option
from kvsync.cli.verbs import VERBS, function_of, version_text

__all__ = ["app"]

app = App(
    name="kvsync",
    help="Make two key-value storages equal, both ways, moving only what changed.\n\n"
    "A storage is the path of a folder, or a URL such as sqlite:///app.db (relative) or sqlite:////var/app.db "
    "(absolute). `kvsync storages` lists all kinds.",
    help_epilogue="Exit codes: 0 done, 1 failed, 2 wrong usage, 3 conflicts left, 4 locked, 5 stopped by --max-delete.",
    help_format="plaintext",
    version=version_text,
    suppress_keyboard_interrupt=False,
)


def _annotate(owner: Any) -> None:
    """Say what each `Option` in the annotations of a function or class says in the parser's words, too."""
    hints = get_type_hints(owner, include_extras=True)
    owner.__annotations__ = {name: _annotation(hint) for name, hint in hints.items()}


def _annotation(hint: Any) -> Any:
    if is_dataclass(hint):
        _annotate(hint)
        return Annotated[hint, Parameter(name="*")]
    options = [each for each in getattr(hint, "__metadata__", ()) if isinstance(each, Option)]
    return Annotated[hint, _parameter(options[0])] if options else hint


def _parameter(option: Option) -> Parameter:
    return Parameter(
        name=option.name,
        help=option.help,
        negative=option.negative,
        show_default=None if option.show_default else False,
        allow_leading_hyphen=option.leading_hyphen,
    )


for _position, (_verb, _arguments) in enumerate(VERBS.items()):
    _function = function_of(_verb)
    _annotate(_function)
    _usage = f"Usage: kvsync {_verb} [OPTIONS] {_arguments}" if _arguments else None
    app.command(_function, sort_key=_position, usage=_usage)
