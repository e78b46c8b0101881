"""The client's clock in every form: what is read means the moment that the client meant, to the millisecond."""

from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.events.times import client_time_ms

MOMENT_MS = 1_800_000_000_123  # 2027-01-15T08:00:00.123Z
SECOND_MS = 1_800_000_000_000
moments = st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1))  # noqa: DTZ001  (hypothesis adds the zone)
offsets = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@pytest.mark.parametrize(
    ("said", "meant_ms"),
    [
        (1_800_000_000, SECOND_MS),
        (1_800_000_000.123, MOMENT_MS),
        (1_800_000_000.1239, MOMENT_MS),
        (2_196_214_625.443, 2_196_214_625_443),  # a thousand times this double is less
        (1_800_000_000_123, MOMENT_MS),
        (1_800_000_000_123.9, MOMENT_MS),
        (1_800_000_000_123_456, MOMENT_MS),
        ("1800000000", SECOND_MS),
        ("1800000000.123", MOMENT_MS),
        (" 1800000000123 ", MOMENT_MS),
        ("1800000000123.75", MOMENT_MS),
        ("1800000000123456", MOMENT_MS),
        (0, 0),
        (99_999_999_999, 99_999_999_999_000),
        (100_000_000_000, 100_000_000_000),
        (99_999_999_999_999, 99_999_999_999_999),
        (100_000_000_000_000, 100_000_000_000),
    ],
)
def test_an_epoch_is_told_by_its_magnitude(said: Any, meant_ms: int) -> None:
    """Seconds below 1e11, milliseconds below 1e14, microseconds below 1e17, as numbers or as digits."""
    assert client_time_ms(said) == meant_ms


@pytest.mark.parametrize(
    ("said", "meant_ms"),
    [
        ("2027-01-15T08:00:00.123Z", MOMENT_MS),
        ("2027-01-15t08:00:00.123z", MOMENT_MS),
        ("2027-01-15 08:00:00.123", MOMENT_MS),
        ("2027-01-15T08:00:00,123456789+00:00", MOMENT_MS),
        ("2027-01-15T09:00:00.123+01", MOMENT_MS),
        ("2027-01-15T02:30:00.123-0530", MOMENT_MS),
        ("20270115T080000Z", SECOND_MS),
        ("2027-W02-5T08:00Z", SECOND_MS),
        ("2027-01-15T08", SECOND_MS),
        ("2027-01-15", SECOND_MS - 8 * 3_600_000),
        ("20270115", SECOND_MS - 8 * 3_600_000),
        ("2027-01-14T24:00", SECOND_MS - 8 * 3_600_000),
        ("2027-01-14T24:00:00.000Z", SECOND_MS - 8 * 3_600_000),
        ("20270114T240000+0100", SECOND_MS - 9 * 3_600_000),
        ("Fri, 15 Jan 2027 08:00:00 GMT", SECOND_MS),
        ("15 Jan 2027 08:00 +0000", SECOND_MS),
        ("fri, 15 jan 27 03:00:00 est", SECOND_MS),
        ("Fri,  15 Jan 2027 09:00:00 +0100 (CET)", SECOND_MS),
        ("Fri, 15 Jan 2027 08:00:00 -0000", SECOND_MS),
    ],
)
def test_a_text_is_iso_8601_or_rfc_2822(said: str, meant_ms: int) -> None:
    """Basic and extended, with any offset; without one it is UTC."""
    assert client_time_ms(said) == meant_ms


@pytest.mark.parametrize(
    "said",
    [
        *(None, True, False, {}, [], "", " ", "yesterday", "2027-01", "2027-015", "15.01.2027"),
        *(1e17, 10**17, 10**400, 1e300, -1e300, "9" * 18, "9" * 400, "-1800000000", "1e9", "0x6b49d200", "1800000000."),
        "１８００００００００",  # noqa: RUF001  (digits beyond ASCII are none)
        *("2027-02-30T08:00:00Z", "2027-01-15T24:00:01Z", "2027-01-15T25:00Z", "2027-01-15T08:00:60Z"),
        *("Fri, 31 Feb 2027 08:00:00 GMT", "Fri, 15 Jan 2027 08:00:00", "Fri, 15 Jan 2027 08:00:00 CEST"),
        "Fri Jan 15 2027 08:00:00 GMT+0000 (Coordinated Universal Time)",
    ],
)
def test_nothing_else_is_a_time(said: Any) -> None:
    """What could mean several moments is not guessed."""
    assert client_time_ms(said) is None


@given(moments, offsets)
def test_a_moment_survives_each_form(moment: datetime, offset: timezone) -> None:
    """As ISO 8601 and as each epoch: to the millisecond; as RFC 2822: to the second."""
    at = moment.replace(tzinfo=offset)
    since = at - datetime(1970, 1, 1, tzinfo=UTC)
    meant_ms = since // timedelta(milliseconds=1)
    us = since // timedelta(microseconds=1)

    for said in (
        *(at.isoformat(), at.isoformat(" "), f"{at.isoformat(timespec='milliseconds')}"),
        *(meant_ms, float(meant_ms), str(meant_ms), us, str(us), f"{us // 1_000_000}.{us % 1_000_000:06d}"),
    ):
        assert client_time_ms(said) == meant_ms, said
    assert client_time_ms(format_datetime(at)) == meant_ms // 1000 * 1000
