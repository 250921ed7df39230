"""GET /admin/usage, and what `dragoman usage` prints."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from proxy.plugin import Endpoint, EndpointResponse, InvalidRequest, Scripting

from .days import read_day
from .report import Query, Report

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import date

    from proxy.plugin import EndpointRequest, Store

    from .usage import UsageBook

PATH = "/admin/usage"


def endpoint(book: UsageBook, today: Callable[[], date], keep: float) -> Endpoint:
    """Tells what was used; this process's own part up to now, others' up to a second ago."""

    async def respond(request: EndpointRequest) -> EndpointResponse:
        form = request.query.get("format", "json")
        if form not in ("json", "csv"):
            raise InvalidRequest(f"format should be json or csv, not {form!r}", param="format")
        try:
            query = Query.read(request.query, today(), keep)
        except ValueError as error:
            raise InvalidRequest(str(error)) from None
        await book.write()
        report = await Report.of(query, book.day)
        if form == "json":
            return EndpointResponse(await asyncio.to_thread(report.document))
        head = {"Content-Type": "text/csv; charset=utf-8"}
        return EndpointResponse(await asyncio.to_thread(report.csv), headers=head)

    return Endpoint("GET", PATH, respond)


async def printed(
    store: Store, given: Mapping[str, str], today: date, keep: float, form: str | None
) -> Sequence[str]:
    """The lines of a report: a table, or `csv` or `json`.  ValueError, StoreUnavailable."""
    if not isinstance(store, Scripting):
        raise ValueError(  # noqa: TRY004  # it is caught as one
            "the store is memory://: only the running proxy knows what was used; "
            f"ask its admin listener for {PATH}"
        )
    scripting: Scripting = store
    query = Query.read(given, today, keep)
    report = await Report.of(query, lambda day: read_day(scripting, day))
    if form == "csv":
        return [report.csv().removesuffix("\n")]
    if form == "json":
        return [msgspec.json.encode(report.document()).decode()]
    return list(report.table())
