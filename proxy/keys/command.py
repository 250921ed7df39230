"""What `dragoman keys` does, and what it prints."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from proxy import config
from proxy.callers import fingerprint, new_key
from proxy.errors import ConfigError
from proxy.quantities import moment, seconds
from proxy.store import StoreUnavailable, open_store
from proxy.store.address import Address
from proxy.telemetry import Metrics
from proxy.terminal import columns

from . import changes
from .table import KeyTable, StoredKey, UnreadableTable

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator, Mapping, Sequence

    from proxy.settings import Key, Settings

PATIENCE = 5.0
"""Seconds that the store may take: nobody but the operator waits."""

SHOWN = 8
"""Digits of a hash by which people tell keys of one name apart."""


def done(arguments: argparse.Namespace, environ: Mapping[str, str]) -> list[str]:
    """Do what was asked; what there is to say.  ConfigError, or StoreUnavailable."""
    settings = _settings(arguments, environ)
    if not settings.store.keys:
        return _in_configuration(arguments, settings)
    logging.getLogger("dragoman").addHandler(logging.NullHandler())  # we say what happened
    address = Address.parse(settings.store.url.get_secret_value())
    try:
        return asyncio.run(_in_store(arguments, settings))
    except StoreUnavailable as error:
        advice = "" if arguments.action == "list" else "; `dragoman keys list` shows what was done"
        raise StoreUnavailable(f"{address}: {error}{advice}") from error
    except UnreadableTable:
        text = f"{address}: the table of keys is damaged, or a newer version has written it"
        raise StoreUnavailable(text) from None


def _settings(arguments: argparse.Namespace, environ: Mapping[str, str]) -> Settings:
    """The settings; only what is wrong with the store matters here."""
    draft = config.read(config.find(arguments.config, environ), {}, environ)
    wrong = [each for each in draft.mistakes.found if each.place[:1] in ((), ("store",))]
    if wrong:
        raise ConfigError([each.text for each in wrong])
    return draft.settings


# ---- keys of the configuration


def _in_configuration(arguments: argparse.Namespace, settings: Settings) -> list[str]:
    if arguments.action == "list":
        return _listed(settings.keys, [])
    if arguments.action != "new":
        advice = f"take the [[keys]] table of {arguments.name} out of it"
        raise ConfigError([f"store.keys is off, so keys are in the configuration: {advice}"])
    key, made = _made(arguments)
    return [
        key,
        "",
        f"This is the key of {made.name}, shown only now.  The configuration holds its hash:",
        "",
        *_table(made),
    ]


def _table(key: Key) -> list[str]:
    lists = {name: getattr(key, name) for name in ("groups", "models")}
    lines = ["[[keys]]", f'name = "{key.name}"', f'sha256 = "{key.sha256}"']
    lines += [f"{name} = {json.dumps(given)}" for name, given in lists.items() if given]
    if key.expires is not None:
        lines.append(f"expires = {key.expires.replace(microsecond=0).isoformat()}")
    return lines


# ---- keys of the store


async def _in_store(arguments: argparse.Namespace, settings: Settings) -> list[str]:
    async with _table_of(settings) as table:
        if arguments.action == "list":
            return await _list(table, settings)
        now = datetime.now(UTC)
        name = arguments.name
        if arguments.action == "revoke":
            left = await table.change(lambda keys: changes.without(keys, name))
            return [f"The keys of {name} are revoked.  {_followed(left)}"]
        if any(key.name == name for key in settings.keys):
            raise ConfigError([f"{name} has a key in the configuration"])
        told = [f"This is the key of {name}, shown only now."]
        if arguments.action == "new":
            key, made = _made(arguments)
            left = await table.change(lambda keys: changes.with_new(keys, made, now))
        else:
            key, sha256 = _fresh()
            expires, grace = _until(arguments.expires, now), _grace(arguments.grace)
            left = await table.change(
                lambda keys: changes.rotated(keys, name, sha256, now, grace, expires)
            )
            told.append(f"The one before ends at {now + grace:%Y-%m-%d %H:%M} UTC, or earlier.")
        return [key, "", *told, _followed(left)]


@asynccontextmanager
async def _table_of(settings: Settings) -> AsyncIterator[KeyTable]:
    patient = settings.store.model_copy(update={"timeout": PATIENCE})
    store = await open_store(patient, Metrics(settings.upstream.provider))
    try:
        yield KeyTable(store)
    finally:
        await store.close()


def _followed(left: Sequence[Key]) -> str:
    keys = "1 key" if len(left) == 1 else f"{len(left)} keys"
    return f"The store holds {keys}; running proxies follow within 5 s."


async def _list(table: KeyTable, settings: Settings) -> list[str]:
    stored = (await table.read()).keys
    uses = await table.last_uses([key.sha256 for key in stored])
    shown = [*settings.keys, *sorted(stored, key=lambda key: (key.name, key.created))]
    last = dict(zip((key.sha256 for key in stored), uses, strict=True))
    return _listed(shown, [str(last.get(key.sha256) or "-") for key in shown])


def _listed(keys: Sequence[Key], uses: Sequence[str]) -> list[str]:
    """A table of the keys; uses are known of those in a store."""
    now = datetime.now(UTC)
    rows = [["name", "sha256", "created", "expires (UTC)", "last used", "groups", "models"]]
    for index, key in enumerate(keys):
        created = f"{key.created:%Y-%m-%d}" if isinstance(key, StoredKey) else "-"
        used = uses[index] if uses else "-"
        groups, models = (" ".join(words) or "-" for words in (key.groups, key.models))
        row = [key.name, f"{key.sha256[:SHOWN]}...", created, _end(key, now), used, groups, models]
        rows.append(row)
    return columns(rows)


def _end(key: Key, now: datetime) -> str:
    if key.expires is None:
        return "-"
    end = f"{key.expires.astimezone(UTC):%Y-%m-%d %H:%M}"
    return f"{end} (over)" if key.expires <= now else end


# ---- what was given


def _fresh() -> tuple[str, str]:
    """A new key and its hash."""
    key = new_key()
    return key, fingerprint(key)


def _made(arguments: argparse.Namespace) -> tuple[str, StoredKey]:
    """A new key, and what is kept of it."""
    now = datetime.now(UTC)
    key, sha256 = _fresh()
    given: dict[str, Any] = {
        name: tuple(dict.fromkeys(getattr(arguments, name))) for name in ("groups", "models")
    }
    given["expires"] = _until(arguments.expires, now)
    try:
        return key, StoredKey(name=arguments.name, sha256=sha256, created=now, **given)
    except ValidationError as error:
        rule = "1 to 64 letters, digits, dots, dashes and underscores"
        rules = {"name": rule, "groups": f"names: {rule}", "models": "patterns of models"}
        places = dict.fromkeys(str(each["loc"][0]) for each in error.errors(include_url=False))
        raise ConfigError(
            [
                f"--{place}: should be {rules[place]}, not {_given(arguments, place)}"
                for place in places
            ]
        ) from None


def _given(arguments: argparse.Namespace, place: str) -> str:
    value = getattr(arguments, place)
    return repr(value if isinstance(value, str) else " ".join(value))


def _until(text: str | None, now: datetime) -> datetime | None:
    """The end that is meant: a time, a day, or so long from now."""
    if text is None:
        return None
    try:
        end: datetime = now + timedelta(seconds=seconds(text))
    except OverflowError:
        end = moment("9999-12-31")
    except ValueError:
        try:
            end = moment(text)
        except ValueError:
            meant = "a duration, a day or a time, as in 90d or 2027-12-31"
            raise ConfigError([f"--expires: should be {meant}, not {text!r}"]) from None
    if end <= now:
        raise ConfigError([f"--expires: {text} is over"])
    return end


def _grace(text: str) -> timedelta:
    try:
        return timedelta(seconds=seconds(text))
    except (OverflowError, ValueError):
        problem = f"--grace: should be a duration, as in 24h, not {text!r}"
        raise ConfigError([problem]) from None
