"""The catalogue: data that people edit, refused with a sentence when it can't work."""

from pathlib import Path

import pytest

from schemas.event import Catalogue, open_catalogue, read_catalogue

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
        ('[types.view]\nsent_when = "x"\n' + FIELD + REST, "written in upper case"),
        (TYPE + '[fields.colour]\ntype = "string"\ndoc = "x"\n' + REST, "no column"),
        (TYPE + '[fields.receivedAt]\ntype = "string"\ndoc = "x"\n' + REST, "no column"),
        (TYPE + '[fields.url]\ntype = "text"\ndoc = "x"\n' + REST, "Invalid enum value"),
        (TYPE + '[fields.url]\nkind = "string"\ndoc = "x"\n' + REST, "`kind`"),
        (TYPE + FIELD + "[property.x]\n", r"the sections are types, fields, properties"),
        ("types = 5\n", r"the sections are types, fields, properties"),
        ('[types.VIEW]\nsent_when = "x"\nfields = ["urll"]\n' + FIELD, "there is no field 'urll'"),
        (TYPE + '[fields.anonId]\ntype = "id"\ndoc = "x"\nlength_min = 9\nlength_max = 8\n', "leave no length"),
        (TYPE + '[fields.active]\ntype = "int8"\ndoc = "x"\nlength_max = 8\n', "has a length"),
        (TYPE + FIELD + '[properties]\nurl = "address"\n', "there is a field of that name"),
        (TYPE + FIELD + '[properties.x]\ntype = "date"\ndoc = "x"\n', r"\[properties.x\]: Invalid enum value"),
        (TYPE + FIELD + '[properties.x]\npromoted = "text"\ndoc = "x"\n', r"\[properties.x\]: Invalid enum value"),
        ("types = [", "Invalid value"),
    ],
)
def test_a_broken_catalogue_says_what_is_wrong(text: str, says: str) -> None:
    """A slip of the pen stops the start with a sentence, not a traceback from deep inside."""
    with pytest.raises(ValueError, match=says):
        read_catalogue(text)


OWN = """
[types.SHARE]
sent_when = "the user shares"
fields = ["shareTarget"]

[fields.shareTarget]
type = "string"
length_max = 20
doc = "Where it was shared to."

[fields.scrollDepth]
type = "integer"
doc = "Strict here."

[properties]
mood = "how it was"
"""


def extended(text: str, directory: Path) -> Catalogue:
    """Return the project's catalogue with a file of an operator's."""
    path = directory / "own.toml"
    path.write_text(text)
    return open_catalogue(str(path))


def test_an_operators_file_adds_to_the_catalogue(tmp_path: Path) -> None:
    """Its types and fields stand beside the project's; a documented member may become a field."""
    base, catalogue = read_catalogue(), extended(OWN, tmp_path)

    assert set(catalogue.types) == {*base.types, "SHARE"}
    assert set(catalogue.fields) == {*base.fields, "shareTarget", "scrollDepth"}
    assert set(catalogue.properties) == {*base.properties, "mood"} - {"scrollDepth"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[fields.url]\ntype = "string"\ndoc = "x"\n', r"\[fields.url\]: the name is in use"),
        ('[fields.ip]\ntype = "string"\ndoc = "x"\n', r"\[fields.ip\]: the name is in use"),
        ('[fields.timestamp]\ntype = "string"\ndoc = "x"\n', r"\[fields.timestamp\]: the name is in use"),
        ('[fields.x]\ntype = "string"\n', r"\[fields.x\]: Object missing required field `doc`"),
        ('[types.SHARE]\nsent_when = "x"\nfields = ["nowhere"]\n', "there is no field 'nowhere'"),
        ("[types", "Expected ']'"),
    ],
)
def test_a_slip_in_an_operators_file_is_named_with_its_place(text: str, says: str, tmp_path: Path) -> None:
    """One sentence that begins with the file's path."""
    with pytest.raises(ValueError, match=says) as caught:
        extended(text, tmp_path)

    assert str(caught.value).startswith(f"{tmp_path}/own.toml: ")


def test_an_operators_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """The same kind of sentence."""
    with pytest.raises(ValueError, match="No such file"):
        open_catalogue(str(tmp_path / "none.toml"))
