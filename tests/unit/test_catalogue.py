"""The catalogue: data that people edit, refused with a sentence when it can't work."""

import pytest

from schemas.event import read_catalogue

TYPE = '[types.VIEW]\nsent_when = "shown"\n'
FIELD = '[fields.url]\ntype = "string"\ndoc = "address"\n'
REST = "[properties]\n"


def test_the_projects_catalogue_has_the_documented_types() -> None:
    """The seven types of the API's page are there."""
    assert set(read_catalogue().types) == {"PING", "VIEW", "CLICK", "EXIT", "PURCHASE", "TRANSACTION", "REGISTRATION"}


def test_an_operator_can_add_a_type() -> None:
    """A new table under [types] is a new type."""
    catalogue = read_catalogue(TYPE + '[types.SHARE]\nsent_when = "shared"\n' + FIELD + REST)

    assert set(catalogue.types) == {"VIEW", "SHARE"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[types.view]\nsent_when = "x"\n' + FIELD + REST, "not in upper case"),
        (TYPE + '[fields.colour]\ntype = "string"\ndoc = "x"\n' + REST, "no column"),
        (TYPE + '[fields.receivedAt]\ntype = "string"\ndoc = "x"\n' + REST, "no column"),
        (TYPE + '[fields.url]\ntype = "text"\ndoc = "x"\n' + REST, "Invalid enum value"),
        (TYPE + '[fields.url]\nkind = "string"\ndoc = "x"\n' + REST, "unknown field"),
        ("types = [", "Invalid value"),
    ],
)
def test_a_broken_catalogue_says_what_is_wrong(text: str, says: str) -> None:
    """A slip of the pen stops the start with a sentence, not a traceback from deep inside."""
    with pytest.raises(ValueError, match=says):
        read_catalogue(text)
