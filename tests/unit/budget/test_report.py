"""Reports of usage: what is asked for, and what spreadsheets and terminals make of it."""

from __future__ import annotations

import csv
from collections import Counter
from datetime import date
from io import StringIO

import pytest

from plugins.budget.days import Row
from plugins.budget.report import Query, Report

TODAY = date(2026, 11, 22)
KEEP = 400 * 86_400


async def report(by, days):
    async def read(day):
        return {Row(*row): Counter(amounts) for row, amounts in days.get(day, {}).items()}

    return await Report.of(Query.read({"by": by}, TODAY, KEEP), read)


# ---- what is asked for


@pytest.mark.parametrize(
    ("given", "since", "until"),
    [
        ({}, "2026-10-24", "2026-11-23"),  # somewhere it is tomorrow
        ({"from": "2026-11-01"}, "2026-11-01", "2026-11-23"),
        ({"from": "2026-11-01", "to": "2026-11-01"}, "2026-11-01", "2026-11-01"),
        ({"to": "2026-11-01"}, "2026-10-03", "2026-11-01"),
        ({"from": "0001-01-01", "to": "9999-12-31"}, "2025-10-17", "2026-11-23"),
    ],
)
def test_the_days_of_a_report(given, since, until):
    query = Query.read(given, TODAY, KEEP)
    assert (str(query.since), str(query.until)) == (since, until)
    assert (query.days[0], query.days[-1]) == (since, until)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"from": "November"}, "from should be a day such as 2026-11-22, not 'November'"),
        ({"to": "2026-13-01"}, "to should be a day"),
        ({"from": "2026-11-02", "to": "2026-11-01"}, "is no time"),
        ({"by": "caller,month"}, "by should be some of caller, model, day, not 'month'"),
    ],
)
def test_what_cannot_be_asked_for_is_said(given, problem):
    with pytest.raises(ValueError, match=problem):
        Query.read(given, TODAY, KEEP)


async def test_what_is_not_told_apart_is_added_up():
    days = {
        "2026-11-21": {("ann", "m"): {"requests": 1}, ("bob", "m"): {"requests": 2}},
        "2026-11-22": {("ann", "m"): {"requests": 4}, ("ann", "n"): {"requests": 8}},
    }
    found = {by: dict((await report(by, days)).rows) for by in ("caller", "day,caller", "")}
    assert found["caller"] == {("ann",): {"requests": 13}, ("bob",): {"requests": 2}}
    assert list(found["day,caller"]) == [
        ("2026-11-21", "ann"),
        ("2026-11-21", "bob"),
        ("2026-11-22", "ann"),
    ]
    assert found[""] == {(): {"requests": 15}}


# ---- what is made of it


async def test_money_keeps_every_digit():
    nano = 8_999_999_123_456_789
    made = await report("", {"2026-11-22": {("a", "m"): {"requests": 1, "nano": nano}}})
    assert made.document()["total"]["usd"] == 8_999_999.123456789
    assert made.csv().splitlines()[-1].endswith(",8999999.123456789")


BREAKS = str.maketrans("\t\r\n", "???")
EVIL = ["=cmd|'/c calc'!A0", "+1", "-1", "@SUM(A1)", "\tx", "\r=1", "\n=1", 'a","b', "line\nbreak"]


async def test_no_name_is_a_formula_to_a_spreadsheet():
    day = {("-ann", model): {"requests": 1} for model in EVIL}
    text = (await report("caller,model", {"2026-11-22": day})).csv()
    head, *rows = csv.reader(StringIO(text))
    assert head[:3] == ["caller", "model", "requests"]
    assert len(rows) == len(EVIL)
    for caller, model, *numbers in rows:
        assert caller == "'-ann"
        assert model.removeprefix("'") in {each.translate(BREAKS) for each in EVIL}
        assert model[0] in "'?al"
        assert all(number.replace(".", "").isdigit() for number in numbers)


async def test_no_name_commands_the_terminal():
    day = {("ann", "\x1b[2J\n\u202egpt"): {"requests": 1}}
    lines = list((await report("model", {"2026-11-22": day})).table())
    assert len(lines) == 3
    assert lines[1].startswith("?[2J??gpt ")
    assert lines[2].split()[:2] == ["total", "1"]


async def test_a_report_of_nothing():
    made = await report("caller", {})
    assert made.document()["rows"] == []
    assert made.document()["total"]["requests"] == 0
    assert [line.split()[0] for line in made.table()] == ["caller", "total"]
