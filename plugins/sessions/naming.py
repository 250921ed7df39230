"""What a request says of its session, and the keys under which that is stored."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, cast, get_args

from proxy.plugin import InvalidRequest

from .log import Place
from .reconcile import Mode

if TYPE_CHECKING:
    from proxy.plugin import Caller, ChatRequest

_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


@dataclass(frozen=True, slots=True)
class Wish:
    """What a client wants of its session."""

    session: str
    mode: Mode
    retracts: bool

    @classmethod
    def of(cls, request: ChatRequest) -> Wish | None:
        """None if no session is named.  InvalidRequest if what is said of it makes no sense."""
        named, where = request.options.get("session"), "x-dragoman-session"
        if named is None:
            metadata = request.get("metadata")
            named = metadata.get("session_id") if isinstance(metadata, Mapping) else None
            where = "metadata.session_id"
        if named is None:
            return None
        mode = cast("Mode", _chosen(request, "session-mode", get_args(Mode), "auto"))
        retracts = bool(_chosen(request, "retract", ("last",), ""))
        return cls(checked(named, where), mode, retracts)


def checked(session: object, where: str) -> str:
    """The id of a session.  InvalidRequest if it is none."""
    if not isinstance(session, str) or not _ID.fullmatch(session):
        raise InvalidRequest(
            "The id of a session is 1 to 128 letters, digits and . _ : -",
            param=where,
            code="invalid_session",
        )
    return session


def _chosen(request: ChatRequest, option: str, known: tuple[str, ...], default: str) -> str:
    value = request.options.get(option, default).strip().lower()
    if value != default and value not in known:
        raise InvalidRequest(
            f"Known here: {', '.join(known)}.", param=f"x-dragoman-{option}", code="invalid_header"
        )
    return value


def place(secret: bytes, caller: Caller, session: str) -> Place:
    """The keys of a session of a caller: nobody else's, and nobody can tell whose they are.

    The part in braces keeps both on one server of a Cluster.
    """
    who = f"{caller.id}\0{session}".encode("utf-8", "surrogatepass")
    tag = blake2b(who, key=secret, digest_size=16).hexdigest()
    return Place(f"{{{tag}}}:text", f"{{{tag}}}:lease")
