"""`kvsync pairs`: show what `kvsync.toml` says."""

from collections.abc import Iterator
from typing import Any

from kvsync.cli.exitcodes import DONE, USAGE
from kvsync.cli.names import needed_config
from kvsync.cli.output import Output
from kvsync.cli.secrets import shown_token
from kvsync.cli.sync import PLAIN
from kvsync.config.file import Config
from kvsync.errors import UsageError

__all__ = ["pairs"]


def pairs(*, output: Output = PLAIN) -> int:
    """Show the storages, pairs and groups that kvsync.toml names, and what is wrong with them.

    Runs nothing, and no command of the file either. Exits with 2 if anything
    is wrong.
    """
    config = needed_config()
    found = [_pair_fields(config, name) for name in config.pairs]
    storages = {name: _shown(config, name) for name in config.storages}
    problems = [str(pair["problem"]) for pair in found if pair["problem"]] + _problems(config)
    output.result(
        {
            "config": config.path,
            "storages": storages,
            "pairs": found,
            "groups": config.groups,
            "problems": problems,
        }
    )
    output.say(config.path)
    output.say_all(_lines(found, storages, config))
    for problem in problems:
        output.warn(problem)
    return USAGE if problems else DONE


def _pair_fields(config: Config, name: str) -> dict[str, Any]:
    try:
        pair = config.pair(name)
    except UsageError as error:
        return {"name": name, "source": None, "target": None, "options": {}, "problem": error.message}
    options = {key: value for key, value in pair.options.items() if (key, value) != ("scan", True)}
    source, target = shown_token(pair.source), shown_token(pair.target)
    return {"name": name, "source": source, "target": target, "options": options, "problem": None}


def _problems(config: Config) -> list[str]:
    """Return what is wrong with storages and groups."""
    found = []
    for name in config.storages:
        try:
            config.shown(name)
        except UsageError as error:
            found.append(error.message)
    for name in config.groups:
        try:
            config.members([name])
        except UsageError as error:
            found.append(error.message)
    return found


def _shown(config: Config, name: str) -> str | None:
    try:
        return shown_token(config.shown(name))
    except UsageError:
        return None


def _lines(found: list[dict[str, Any]], storages: dict[str, str | None], config: Config) -> Iterator[str]:
    width = max(map(len, [*storages, *config.pairs, *config.groups]), default=0)
    for name, url in storages.items():
        yield f"  storage  {name:{width}}  {url or '?'}"
    for pair in found:
        options = "".join(f", {key}={value}" for key, value in pair["options"].items())
        ends = f"{pair['source']} <-> {pair['target']}{options}" if pair["problem"] is None else "?"
        yield f"  pair     {pair['name']:{width}}  {ends}"
    for name, members in config.groups.items():
        yield f"  group    {name:{width}}  {', '.join(map(str, members)) if isinstance(members, list) else '?'}"
