"""Fields of an operator's own catalogue: checked like the project's, and kept in `properties`; what decimals are."""

import json
from pathlib import Path
from typing import Any

import pytest

from ingest.events.fields import FieldError, read_decimal
from ingest.events.validator import EventLimits, Validator
from schemas.event import open_catalogue
from tests.support.both_ways import assert_alike
from tests.support.results import ID, ORIGIN

OWN = """
[types.SHARE]
sent_when = "the user shares"
fields = ["target"]

[fields.target]
type = "string"
length_min = 2
length_max = 5
doc = "Where to."

[fields.order]
type = "id"
doc = "The order."

[fields.session]
type = "uuid"
doc = "The session."

[fields.level]
type = "int8"
doc = "The level."

[fields.count]
type = "integer"
doc = "How many."

[fields."price.net"]
type = "number"
doc = "How much."

[fields.is_new]
type = "boolean"
doc = "Whether it is new."
"""


@pytest.fixture
def own(tmp_path: Path) -> Validator:
    """An intake with the operator's catalogue."""
    path = tmp_path / "own.toml"
    path.write_text(OWN)
    return Validator(open_catalogue(str(path)), EventLimits(), "sandbox")


def judge(own: Validator, **fields: Any) -> Any:
    """Return the entry of one event of the operator's type."""
    body = json.dumps({"messageBody": [{"eventType": "share"} | fields]}).encode()
    assert_alike(own, body, ORIGIN)
    return own.read(body, ORIGIN).entries[0]


@pytest.mark.parametrize(
    ("name", "sent", "kept"),
    [
        ("target", "ab", "ab"),
        ("order", 7, "7"),
        ("session", ID.upper(), ID),
        ("level", True, 1),
        ("level", "0", 0),
        ("count", 7.0, 7),
        ("count", 2**64 - 1, 2**64 - 1),
        ("price.net", 9.5, 9.5),
        ("price.net", 9, 9),
        ("is_new", 1, True),
        ("is_new", "0", False),
        ("is_new", False, False),
    ],
)
def test_a_field_is_kept_in_its_type(own: Validator, name: str, sent: Any, kept: Any) -> None:
    """After the same lossless coercions as a field with a column."""
    stored = judge(own, **{name: sent})

    assert stored["eventType"] == "SHARE"
    (value,) = json.loads(stored["properties"]).values()
    assert (type(value), value) == (type(kept), kept)


@pytest.mark.parametrize("name", ["target", "order", "session", "level", "count", "price.net", "is_new"])
def test_a_field_that_is_absent_is_not_kept(own: Validator, name: str) -> None:
    """`null` and "" are as good as absent, and so is a nil UUID."""
    for sent in (None, "", *(["00000000-0000-0000-0000-000000000000"] if name == "session" else [])):
        assert judge(own, **{name: sent})["properties"] == "{}"


@pytest.mark.parametrize(
    ("name", "sent", "rule"),
    [
        ("target", 5, "type"),
        ("target", "x", "length"),
        ("target", "x" * 6, "length"),
        ("order", [], "type"),
        ("session", "x", "format"),
        ("level", 128, "integer"),
        ("count", "7", "type"),
        ("count", 1.5, "type"),
        ("count", 2**64, "integer"),
        ("count", 1e17, "integer"),
        ("price.net", "9", "type"),
        ("price.net", True, "type"),
        ("price.net", -(2**63) - 1, "integer"),
        ("is_new", "yes", "type"),
        ("is_new", 2, "type"),
    ],
)
def test_a_value_that_does_not_fit_refuses_the_event(own: Validator, name: str, sent: Any, rule: str) -> None:
    """The pointer names the field."""
    entry = judge(own, **{name: sent})

    assert [(fault.pointer, str(fault.rule)) for fault in entry.faults] == [(f"/messageBody/0/{name}", rule)]


def test_other_members_are_kept_beside_them(own: Validator) -> None:
    """What no catalogue knows stays as it is, and the project's fields have their columns."""
    stored = judge(own, target="ab", x=[1], userId=5)

    assert json.loads(stored["properties"]) == {"target": "ab", "x": [1]}
    assert stored["userId"] == "5"


@pytest.mark.parametrize("text", ["1", "-1.5", ".5", "1.", "+2e3", "1E-3", "0" * 500])
def test_the_text_of_a_number_is_a_decimal(text: str) -> None:
    """It stays the text that it is, so that no digit is lost."""
    assert read_decimal(text) == text


@pytest.mark.parametrize(
    "text", ["", "1e", "1.e", "-1E", "1e+", ".", "1.5.", "1e5e", "1 ", "0x1", "1_0", "٣", "inf", "1" * 15]
)
def test_what_is_no_number_is_no_decimal(text: str) -> None:
    """Whatever it begins with."""
    with pytest.raises(FieldError, match="must be a number"):
        read_decimal(text)
