"""When is it time? In any time zone, on the days when clocks change too."""

from __future__ import annotations

import pytest

from perdure.errors import InvalidInput
from perdure.triggers.cron import Cron
from perdure.values.clock import from_iso, iso

BERLIN = "Europe/Berlin"  # 2026: clocks go from 2:00 to 3:00 on 29 March, and from 3:00 to 2:00 on 25 October


def slots(expression, since, until, timezone=BERLIN):
    found = Cron(expression, timezone).between(from_iso(since), from_iso(until))
    return [iso(slot)[5:16] for slot in found]


def test_a_slot_is_where_the_zone_says():
    """Nine in Berlin is eight in winter and seven in summer."""
    assert slots("0 9 * * *", "2026-01-01T00:00Z", "2026-01-02T00:00Z") == ["01-01T08:00"]
    assert slots("0 9 * * *", "2026-07-01T00:00Z", "2026-07-02T00:00Z") == ["07-01T07:00"]
    assert slots("0 9 * * 1-5", "2026-01-02T00:00Z", "2026-01-06T00:00Z") == ["01-02T08:00", "01-05T08:00"]


def test_what_clocks_skip_happens_at_the_next_moment_that_there_is():
    """There is no 2:30 on that day: it is 3:00 at once."""
    found = slots("30 2 * * *", "2026-03-28T00:00Z", "2026-03-31T00:00Z")
    assert found == ["03-28T01:30", "03-29T01:00", "03-30T00:30"]


def test_what_clocks_show_twice_happens_once():
    """The first time; also when the search begins between the two."""
    found = slots("30 2 * * *", "2026-10-24T00:00Z", "2026-10-27T00:00Z")
    assert found == ["10-24T00:30", "10-25T00:30", "10-26T01:30"]
    assert slots("30 2 * * *", "2026-10-25T01:10Z", "2026-10-27T00:00Z") == ["10-26T01:30"]


def test_every_hour_goes_by_time_that_passes():
    """Each hour once, through both changes."""
    assert slots("0 * * * *", "2026-03-28T23:30Z", "2026-03-29T02:30Z") == ["03-29T00:00", "03-29T01:00", "03-29T02:00"]
    assert slots("0 * * * *", "2026-10-24T23:30Z", "2026-10-25T02:30Z") == ["10-25T00:00", "10-25T01:00", "10-25T02:00"]


def test_slots_are_after_the_beginning_and_up_to_the_end():
    """So that stretches of time can follow each other."""
    assert slots("0 * * * *", "2026-01-01T10:00Z", "2026-01-01T12:00Z", "UTC") == ["01-01T11:00", "01-01T12:00"]


@pytest.mark.parametrize("expression", ["*/7 * * * *", "30 2 * * *", "0 0 29 2 *", "15 3 1 * 1"])
def test_the_newest_is_the_last_of_all(expression):
    """However far back it is looked for."""
    cron, since, until = Cron(expression, BERLIN), from_iso("2026-01-01T00:00Z"), from_iso("2026-11-02T03:04Z")
    assert cron.latest(since, until) == max(cron.between(since, until), default=None)


@pytest.mark.parametrize(
    ("expression", "timezone"),
    [("* * * *", "UTC"), ("* * * * * *", "UTC"), ("@daily", "UTC"), ("61 * * * *", "UTC"), ("0 0 30 2 *", "UTC"),
     ("0 0 * * *", "Mars/Olympus"), ("0 0 * * *", "../../etc/passwd"), ("0 0 * * *", ""), ("0 " * 500, "UTC")],
)  # fmt: skip
def test_what_is_no_schedule_is_refused(expression, timezone):
    """With a word on what one looks like."""
    with pytest.raises(InvalidInput):
        Cron(expression, timezone)
