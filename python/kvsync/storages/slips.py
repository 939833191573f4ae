"""Paths that are more likely a slip: nothing exists under them, and a folder of that name is hardly what is meant."""

from __future__ import annotations

import os
import re

__all__ = ["likely_meaning"]

_LIKELY = (
    (r"\s*\Z", "it is blank"),
    (r"\s|.*\s\Z", "it begins or ends with a blank"),
    (r"~", "only the shell expands ~, and not within quotes: write {expanded}"),
    (r"\$|%\w+%", "only the shell expands variables, and not within quotes: write {expanded}"),
    (r"(?:[^\s/]*@)?(?:\[[0-9A-F:.]+\]|[^\s/:]+):[0-9]{1,5}(?:/|\Z)", "it looks like a server: write redis://{host}"),
    (r"[A-Z]:(?:[\\/]|\Z)|.*\\", "it looks like a path of Windows, which this system does not know"),
    (r"[^/]*:.*@", "it looks like a login on a server: write the whole URL, with its scheme"),
    (r"[^\s/:]+:[/~]", "it looks like a path on another machine: mount that, and name the folder there"),
    (r".*\.(?:db3?|sqlite3?)\Z", "it looks like a SQLite database: write sqlite:///{path}"),
)
"""What a path looks like at its beginning, and how the sentence goes on that says so; the first one counts."""

_WINDOWS = 5


def likely_meaning(path: str) -> str:
    """Return what a path means more likely than a new folder, as the end of a sentence; empty if nothing else.

    >>> likely_meaning("rel.db"), likely_meaning("notes")
    ('it looks like a SQLite database: write sqlite:///rel.db', '')
    """
    for number, (pattern, text) in enumerate(_LIKELY):
        if re.match(pattern, path, re.IGNORECASE | re.DOTALL | re.ASCII) and (number != _WINDOWS or os.name != "nt"):
            expanded = os.path.expandvars(os.path.expanduser(path))
            # What comes before an "@" may be a password.
            return text.format(path=path, expanded=expanded, host=path.rpartition("@")[2])
    return ""
