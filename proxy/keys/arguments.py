"""The arguments of `dragoman keys`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

_CONFIG = "the configuration, which says whether keys are in a store (as of serve)"
_EXPIRES = "until when it is good: 90d, 2027-12-31 or a time"


def add_actions(verb: argparse.ArgumentParser) -> None:
    """Add new, list, revoke and rotate."""
    actions = verb.add_subparsers(dest="action", metavar="ACTION", required=True)

    def add(name: str, text: str) -> argparse.ArgumentParser:
        action = actions.add_parser(name, help=text, description=text, allow_abbrev=False)
        action.add_argument("-c", "--config", type=Path, metavar="FILE", help=_CONFIG)
        return action

    new = add("new", "make a key: put it into the store, or else print its [[keys]] table")
    new.add_argument("--name", default="client", metavar="NAME", help="whose key it is (client)")
    new.add_argument("--expires", metavar="WHEN", help=_EXPIRES)
    for flag, metavar, text in (
        ("--groups", "GROUP", 'what patterns such as "group:free" find it by'),
        ("--models", "PATTERN", "which models it may ask (all)"),
    ):
        new.add_argument(flag, nargs="+", action="extend", default=[], metavar=metavar, help=text)
    add("list", "show the keys that there are, never the keys themselves")
    revoke = add("revoke", "take the keys of a name out of the store")
    revoke.add_argument("name", metavar="NAME")
    rotate = add("rotate", "make another key for a name, and let the old one end")
    rotate.add_argument("name", metavar="NAME")
    grace = "how long the old one still works (24h)"
    rotate.add_argument("--grace", default="24h", metavar="TIME", help=grace)
    rotate.add_argument("--expires", metavar="WHEN", help=f"{_EXPIRES} (as the old one)")
