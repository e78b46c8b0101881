"""The samples of the form, held against the collector's own validation."""

import json

import pytest

from deploy.embedded.console.samples import FAULTS, sample
from ingest.errors import Rejected
from ingest.events.validator import EventLimits, Sender, Validator
from schemas.event import open_catalogue, read_catalogue

CATALOGUE = read_catalogue()
BROKEN = sorted(name for name in FAULTS if name)


def faults_of(body: str) -> list[bool]:
    """Return for each event of a body whether it is refused."""
    read = Validator(CATALOGUE, EventLimits(), "sandbox").read(body.encode(), Sender(1_700_000_000_000))
    return [hasattr(entry, "faults") for entry in read.entries]


@pytest.mark.parametrize("event_type", CATALOGUE.types)
def test_a_valid_sample_of_each_type_is_accepted(event_type: str) -> None:
    """With the fields that the catalogue names for it."""
    body = sample(CATALOGUE, event_type, "")
    (event,) = json.loads(body)["messageBody"]

    assert faults_of(body) == [False]
    assert set(CATALOGUE.types[event_type].fields) <= set(event)


@pytest.mark.parametrize("fault", [name for name in BROKEN if name != "json"])
@pytest.mark.parametrize("event_type", CATALOGUE.types)
def test_a_broken_sample_is_refused_and_spares_the_good_one(event_type: str, fault: str) -> None:
    """In whichever way it is broken."""
    assert faults_of(sample(CATALOGUE, event_type, fault)) == [True]
    assert faults_of(sample(CATALOGUE, event_type, fault, has_good_one=True)) == [False, True]


def test_a_body_that_is_not_json_is_refused_as_a_whole() -> None:
    """Its events can't be told apart."""
    with pytest.raises(Rejected):
        faults_of(sample(CATALOGUE, "VIEW", "json"))


def test_each_sample_has_another_id() -> None:
    """A second one is another event, not a retry."""
    ids = {json.loads(sample(CATALOGUE, "PING", ""))["messageBody"][0]["eventId"] for _ in range(100)}

    assert len(ids) == 100
    assert {one[14] for one in ids} == {"7"}


def test_an_operators_type_has_a_sample(tmp_path_factory: pytest.TempPathFactory) -> None:
    """With a value for each of its fields."""
    path = tmp_path_factory.mktemp("catalogue") / "own.toml"
    path.write_text(
        '[types.PLAY]\nsent_when = "a film begins"\nfields = ["film", "second"]\n'
        '[fields.film]\ntype = "string"\nlength_min = 9\nlength_max = 12\ndoc = "which"\n'
        '[fields.second]\ntype = "number"\ndoc = "where"\n'
    )
    (event,) = json.loads(sample(open_catalogue(str(path)), "PLAY", ""))["messageBody"]

    assert 9 <= len(event["film"]) <= 12
    assert event["second"] == 1.5
