"""What a dry run adds to the verdict: warnings of what may not be meant, and rows as the table would show them."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from consumer.clickhouse.promotion import Promotion
from consumer.clickhouse.statements import TYPED, column_of
from ingest.events.dry_run import Advisor, Warned, row_of
from ingest.events.validator import FAULTS_MAX, EventLimits
from schemas.event import Event, open_catalogue, read_catalogue
from tests.support.results import ID, NOW_MS, event

ADVISOR: Final = Advisor(read_catalogue(), EventLimits())


def warnings(*raws: Any) -> list[tuple[int, str, str]]:
    """Return index, pointer and rule of each warning."""
    return [(said.index, said.pointer, str(said.rule)) for said in ADVISOR.warnings(list(raws), NOW_MS)]


def warning(name: str, value: Any) -> Warned | None:
    """Return the warning of one member, if there is one."""
    found = ADVISOR.warnings([{name: value}], NOW_MS)
    return found[0] if found else None


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("content_id", "contentId"),
        ("content-id", "contentId"),
        ("Content ID", "contentId"),
        ("CONTENTID", "contentId"),
        ("contentID", "contentId"),
        ("contenttId", "contentId"),
        ("contntId", "contentId"),
        ("contemtId", "contentId"),
        ("contnetId", "contentId"),
        ("user.id", "userId"),
        ("URL", "url"),
        ("event_type", "eventType"),
        ("timeStamp", "timestamp"),
        ("scroll_depth", "scrollDepth"),
        ("numOfCTA", "numOfCta"),
        ("clientld", "clientId"),
    ],
)
def test_a_name_near_a_known_one_is_told(name: str, meant: str) -> None:
    """Another spelling, or one slip of the fingers: a letter more, less, another, or two that changed places."""
    said = warning(name, 1)

    assert said is not None
    assert said.message == f"{name} is kept in properties; did you mean {meant}?"


@pytest.mark.parametrize(
    "name",
    [
        "utm_source",
        "utmSource",
        "utm.source",
        "amount",
        "uri",
        "os",
        "x",
        "",
        "contentTitleOfTheArticle",
        "n" * 41,
        *read_catalogue().fields,
        "ip",
    ],
)
def test_other_names_are_nobodys_slip(name: str) -> None:
    """What is known, what is far from everything, and what is too short to tell."""
    assert warning(name, None) is None


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("yesterday", "is neither ISO 8601, RFC 2822 nor an epoch in s, ms or us"),
        ({}, "is neither ISO 8601, RFC 2822 nor an epoch in s, ms or us"),
        (NOW_MS + 301_000, "lies 301 s ahead, too far to be believed"),
        (NOW_MS // 1000 - 31 * 86_400, "lies 2678400 s back, too far to be believed"),
    ],
)
def test_a_time_that_is_not_believed_is_told(said: Any, why: str) -> None:
    """With the reason, and what is taken instead."""
    found = warning("timestamp", said)

    assert found is not None
    assert found.message == f"timestamp {why}; occurredAt is the time of receipt"


@pytest.mark.parametrize("said", [None, NOW_MS, str(NOW_MS), NOW_MS / 1000, "2027-01-15T08:00:00Z"])
def test_a_time_that_is_believed_is_not(said: Any) -> None:
    """Nor one that is not there."""
    assert warning("timestamp", said) is None


@pytest.mark.parametrize(
    ("name", "bad", "good"),
    [
        ("scrollDepth", ["", "45", True, [], {}, 2**64], [45, 45.5, 0, -1, None, 2**64 - 1]),
        ("counter", ["7", 1.5, True, 1e17, 2**63], [7, 7.0, 2**63 - 1, -(2**63), None]),
        ("adblocker", ["true", 2, "yes", []], [True, False, 0, 1, "0", "1", None]),
        ("contentTitle", [5, True, []], ["", "x", None]),
        ("contentTags", ["a", ["a", 1], [None], {}], [[], ["a", "b"], None]),
    ],
)
def test_a_value_that_its_type_does_not_cover_is_told(name: str, bad: list[Any], good: list[Any]) -> None:
    """The catalogue says the type of some members of properties; nothing is refused for it."""
    assert [str(said.rule) if (said := warning(name, value)) else "" for value in bad] == ["type"] * len(bad)
    assert [warning(name, value) for value in good] == [None] * len(good)


def test_warnings_stand_in_request_order_and_are_bounded() -> None:
    """What is no object has none, and a request of a thousand slips is told of the first ones."""
    assert warnings({"user_id": 1}, 5, {"a/user_id": 1, "URL": 1}) == [
        (0, "/messageBody/0/user_id", "near_name"),
        (2, "/messageBody/2/URL", "near_name"),
    ]
    assert len(warnings(*[{"user_id": 1}] * 1000)) == FAULTS_MAX
    assert warnings({f"unknown{number}": 1 for number in range(5000)} | {"user_id": 1}) == []


def test_an_operators_names_are_known_too(tmp_path: Path) -> None:
    """A catalogue of one's own is asked for near names as well."""
    path = tmp_path / "own.toml"
    path.write_text('[fields.shareTarget]\ntype = "string"\ndoc = "x"\n')

    found = Advisor(open_catalogue(str(path)), EventLimits()).warnings(
        [{"share_target": "a", "shareTarget": "a"}], NOW_MS
    )

    assert [said.message for said in found] == ["share_target is kept in properties; did you mean shareTarget?"]


def test_a_row_has_the_tables_columns() -> None:
    """Names in snake_case, times as the table shows them, properties as an object with all its digits."""
    stored = event(eventId=ID, timestamp="2027-01-15T07:59:59.5Z", big=2**64 - 1)

    row = json.loads(msgspec.json.encode(row_of(stored)))

    columns = [column_of(name) for name in Event.__annotations__]
    assert list(row) == [*(name.removesuffix("_text") for name in columns), *TYPED]
    assert (row["event_id"], row["event_type"], row["active"]) == (ID, "VIEW", -1)
    assert (row["received_at"], row["occurred_at"]) == ("2027-01-15 08:00:00.000", "2027-01-15 07:59:59.500")
    assert row["properties"] == {"timestamp": "2027-01-15T07:59:59.5Z", "big": 2**64 - 1}


def test_a_row_shows_no_column_that_only_the_table_knows() -> None:
    """What ClickHouse makes of a value of another type depends on how it writes numbers and objects as text."""
    row = row_of(event(amount=[1], title=5, scrollDepth="45", counter=7.0, plan="year", utmSource=5, referrer=None))

    assert row.keys() & {"amount", "title", "scroll_depth", "utm_source"} == set()
    assert (row["counter"], row["plan"], row["referrer"], row["utm_medium"]) == (7, "year", "", "")


@pytest.mark.parametrize("name", ["readingMode", "readURL", "a_B", "shareTarget"])
@pytest.mark.parametrize(
    ("kind", "sent", "shown"),
    [
        ("string", "dark", "dark"),
        ("number", 1.5, 1.5),
        ("integer", 7.0, 7),
        ("decimal", "9.5", Decimal("9.5000")),
        ("boolean", 1, True),
        ("strings", ["a"], ["a"]),
        ("string", None, ""),
        ("number", None, None),
    ],
)
def test_a_row_has_the_columns_that_an_operator_has_promoted(
    tmp_path: Path, name: str, kind: str, sent: Any, shown: Any
) -> None:
    """As the catalogue file says, named as `promote` names it; one that was not promoted is not there."""
    section = "fields" if name == "shareTarget" else "properties"
    path = tmp_path / "own.toml"
    own = f'[{section}.{name}]\ntype = "string"\ndoc = "x"\npromoted = "{kind}"\n'
    path.write_text(own + '[properties.mood]\ntype = "string"\ndoc = "y"\n')
    promoted = open_catalogue(str(path)).promoted
    column = Promotion(name, kind).column

    row = row_of(event(mood="m", **{name: sent}), promoted)

    assert (row[column], type(row[column])) == (shown, type(shown))
    assert "mood" not in row
    assert column not in row_of(event(**{name: sent}))
    assert column not in row_of(event(**{name: {"of": "no type"}}), promoted)


@pytest.mark.parametrize(
    ("amount", "shown"),
    [(9.5, "9.5000"), ("1.00005", "1.0001"), (-2, "-2.0000"), ("1e3", "1000.0000"), (0.1, "0.1000")],
)
def test_an_amount_is_shown_with_the_places_of_its_column(amount: Any, shown: str) -> None:
    """Four, rounded half away from zero, as a number."""
    assert str(row_of(event(amount=amount))["amount"]) == shown


@pytest.mark.parametrize(
    ("url", "source"),
    [
        ("https://a/?utm_source=x&utm_source=y", "x"),
        ("https://a/?a=1&utm_source=a%20b+c%C3%BC#top", "a b cü"),
        ("https://a/#utm_source=x", "x"),
        ("https://a/#/page?utm_source=x", "x"),
        ("https://a/#utm_source=x&to=/?utm_source=y", "y"),
        ("https://a/?b=1#utm_source=x&to=/?utm_source=y", "x"),
        ("https://a/?to=https://b/?utm_source=x", ""),
        ("https://a/?utm_source=x?y", "x?y"),
        ("https://a/?xutm_source=x", ""),
        ("https://a/utm_source=x", ""),
        ("https://a/?utm_source", ""),
        ("", ""),
    ],
)
def test_a_campaign_is_that_of_the_url_when_no_member_names_it(url: str, source: str) -> None:
    """The members go first: in camel case, with an underscore, with a dot."""
    assert row_of(event(url=url))["utm_source"] == source
    assert row_of(event(url=url, **{"utm.source": "dot"}))["utm_source"] == "dot"
    assert row_of(event(url=url, utm_source="line", **{"utm.source": "dot"}))["utm_source"] == "line"


@pytest.mark.parametrize("sent", ["%ff", "a%zz", "a%", "%%41"])
def test_a_campaign_that_can_not_be_decoded_is_not_shown(sent: str) -> None:
    """ClickHouse replaces bytes that are no UTF-8, and leaves more of a broken escape than Python does."""
    assert "utm_source" not in row_of(event(url=f"https://a/?utm_source={sent}"))


@pytest.mark.parametrize(
    "amount",
    ["1" * 250_000 + "x", "1" * 250_000, "0e" + "9" * 20, "1e-" + "9" * 20, "1e" + "9" * 250_000],
    ids=["no number", "long", "nought", "small", "large"],
)
def test_a_text_that_is_no_amount_is_told_at_once(amount: str) -> None:
    """One pass over its digits: an event of 256 KiB must not hold up all others; nor is it an error of ours."""
    said = warning("amount", amount)

    assert said is not None
    assert said.rule == "type"
    assert "amount" not in row_of(event(amount=amount))


@pytest.mark.parametrize("amount", ["0e" + "9" * 18, "1e-" + "9" * 18, "0" * 250_000 + "1e0"])
def test_an_amount_may_be_written_in_an_odd_way(amount: str) -> None:
    """Whatever float takes, and Decimal too."""
    assert warning("amount", amount) is None
    assert row_of(event(amount=amount))["amount"] in (0, 1)


@pytest.mark.parametrize("name", sorted(read_catalogue().properties))
def test_an_integer_that_no_float_holds_is_no_error_of_ours(name: str) -> None:
    """Its event is refused, and what else is wrong with it is told all the same."""
    assert ADVISOR.warnings([{name: 10**400}, {"URL": 1}], NOW_MS)[-1].index == 1
