"""What the documents say of settings and commands is what the code has."""

import re

import pytest

from docs.tables import ROOT, TABLES, rendered


@pytest.mark.parametrize("path", TABLES)
def test_generated_tables_are_up_to_date(path: str) -> None:
    """A setting that was added, renamed or moved stands in the documents: run `make docs`."""
    assert (ROOT / path).read_text("utf-8") == rendered(path)


def test_every_link_inside_the_project_leads_somewhere() -> None:
    """A reader who follows a relative link finds a file."""
    dead = [
        f"{page.name}: {target}"
        for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("schemas/**/*.md")]
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text("utf-8"))
        if not (page.parent / target).exists()
    ]

    assert dead == []


def test_the_makefile_has_at_most_ten_targets_and_each_is_explained() -> None:
    """`make` lists what there is on one screen."""
    text = (ROOT / "Makefile").read_text("utf-8")
    targets = re.findall(r"^([a-z]+):", text, flags=re.MULTILINE)

    assert len(targets) <= 10
    assert re.findall(r"^([a-z]+):.* ## ", text, flags=re.MULTILINE) == targets
