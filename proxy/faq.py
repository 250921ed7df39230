"""`dragoman faq`: asks the plugin faq_cache of a configuration."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import config, discovery
from .errors import ConfigError
from .explain.house import House
from .startup import load

if TYPE_CHECKING:
    import argparse

    from .config import Configuration

NAME = "faq_cache"


def lines(arguments: argparse.Namespace) -> list[str]:
    """What an action has to say.  ConfigError if something that it reads cannot be used."""
    try:
        return _lines(arguments)
    except (ValueError, OSError) as error:  # the file of questions, of pairs, an embedder
        raise ConfigError(str(error).splitlines()) from None


def _lines(arguments: argparse.Namespace) -> list[str]:
    if arguments.action == "calibrate":
        return _calibrated(arguments)
    configuration = load(config.find(arguments.config, os.environ), {}, os.environ)
    chosen = [each for each in configuration.plugins if each.table.use == NAME]
    if not chosen:
        raise ConfigError([f"{NAME} is not among the plugins of the configuration"])
    if arguments.action == "test":
        plugin: Any = chosen[0].plugin
        given = {name: getattr(arguments, name) for name in ("model", "caller", "system")}
        told: list[str] = plugin.decided(chosen[0].options, arguments.question, **given)
        return told
    if arguments.verdict and not arguments.question:
        raise ConfigError([f"{arguments.verdict}: name the entry and the question"])
    return asyncio.run(_reviewed(configuration, chosen[0].name, arguments))


def _calibrated(arguments: argparse.Namespace) -> list[str]:
    """With an embedder that is named there need be no configuration."""
    options = None
    plugin: Any = discovery.find(NAME, Path())
    if arguments.config is not None or arguments.embedder is None:
        configuration = load(config.find(arguments.config, os.environ), {}, os.environ)
        chosen = [each for each in configuration.plugins if each.table.use == NAME]
        options = chosen[0].options if chosen else None
    told: list[str] = plugin.calibrated(
        options,
        arguments.pairs,
        embedder=arguments.embedder,
        precision=arguments.precision,
        svg=arguments.svg,
    )
    return told


async def _reviewed(
    configuration: Configuration, name: str, arguments: argparse.Namespace
) -> list[str]:
    async with House(configuration) as house:
        plugin: Any = next(s.layer.plugin for s in house.steps if s.layer.name == name)
        if arguments.verdict is None:
            reviewed: list[str] = await plugin.reviewed()
            return reviewed
        accepted = arguments.verdict == "accept"
        judged: list[str] = await plugin.judged(
            arguments.entry, arguments.question, accepted=accepted
        )
        return judged
