"""The parser of command lines: it prints the help, and says what is wrong with a command line.

It takes longer to load than most runs take, so `kvsync.cli.plain` handles command lines that need neither.
"""

from __future__ import annotations

from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_type_hints

from cyclopts import App, Parameter

from kvsync.cli.options import Option
from kvsync.cli.verbs import VERBS, function_of, version_text

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["app"]

app = App(
    name="kvsync",
    help="Make two key-value storages equal, both ways, moving only what changed.\n\n"
    "A storage is the path of a folder, or a URL such as sqlite:///app.db (relative) or sqlite:////var/app.db "
    "(absolute), or a name from kvsync.toml. `kvsync storages` lists all kinds. The file is looked for upwards from "
    "the working directory; --config FILE, with any command, names another one.",
    help_epilogue="Exit codes: 0 done, 1 failed, 2 wrong usage, 3 conflicts left, 4 locked, 5 stopped by --max-delete.",
    help_format="plaintext",
    version=version_text,
    version_flags=("--version", "-V"),
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
    if not options:
        return hint
    # Of a flag that may also be absent, completion would think that a value follows.
    kind = bool if set(get_args(hint.__origin__)) == {bool, type(None)} else hint.__origin__
    return Annotated[kind, *hint.__metadata__, _parameter(options[0])]


def _parameter(option: Option) -> Parameter:
    return Parameter(
        name=option.name,
        alias=option.short,
        help=option.help,
        negative=option.negative,
        show_default=None if option.show_default else False,
        allow_leading_hyphen=option.leading_hyphen,
    )


def _about(function: Callable[..., int]) -> str:
    """Return what a command does, as paragraphs that the terminal wraps: it may be narrower than the source is."""
    return "\n\n".join(" ".join(each.split()) for each in (function.__doc__ or "").split("\n\n"))


for _position, (_verb, _arguments) in enumerate(VERBS.items()):
    _function = function_of(_verb)
    _annotate(_function)
    _usage = f"Usage: kvsync {_verb} [OPTIONS] {_arguments}" if _arguments else None
    app.command(_function, sort_key=_position, usage=_usage, help=_about(_function))
