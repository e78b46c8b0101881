"""What the documents say of settings and commands is what the code has."""

import re
import subprocess
import tomllib
from pathlib import Path

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


def test_every_test_that_a_document_names_is_there() -> None:
    """A guarantee stands in a document only with a test: a link whose text is a test's name leads to that test."""
    named = [
        (page, name, (page.parent / target).read_text("utf-8"))
        for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
        for name, target in re.findall(r"\[(test_\w+)\]\(([^)#]+\.py)\)", page.read_text("utf-8"))
    ]
    dead = [f"{page.name}: {name}" for page, name, text in named if f"def {name}(" not in text]

    assert dead == []
    assert len({name for page, name, _ in named if page.name == "README.md"}) > 10


def test_every_file_that_a_text_names_is_there() -> None:
    """Comments, docstrings and documents name files by their path from the root; a moved file takes its name along."""
    named = re.compile(
        r"(?<![\w./-])((?:ingest|consumer|schemas|deploy|docs|tests|bench)/[\w./-]+\.(?:py|md|sql|toml|json|yml|xml|sh))\b"
    )
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    texts = [ROOT / name for name in files if Path(name).suffix in {".py", ".md", ".toml", ".yml", ".xml", ".sql", ""}]
    dead = [
        f"{text.relative_to(ROOT)}: {target}"
        for text in texts
        for target in named.findall(text.read_text("utf-8"))
        if not (ROOT / target).exists()
    ]

    assert len(texts) > 300
    assert dead == []


def test_every_dependency_has_its_reason() -> None:
    """And no row is left of one that is gone."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lines = [line for some in (project["dependencies"], *project["optional-dependencies"].values()) for line in some]
    named = {re.split(r"[^\w.-]", line)[0] for line in lines} - {"headrace"}
    text = (ROOT / "docs/decisions/dependencies.md").read_text("utf-8")
    rows = re.findall(r"^\| ([^|]+) \| (?:base|ingest|consumer|tracing|embedded|dev)", text, re.MULTILINE)

    assert {name for row in rows for name in row.split(", ")} == named


def test_the_makefile_has_at_most_ten_targets_and_each_is_explained() -> None:
    """`make` lists what there is on one screen."""
    text = (ROOT / "Makefile").read_text("utf-8")
    targets = re.findall(r"^([a-z-]+):", text, flags=re.MULTILINE)

    assert len(targets) <= 10
    assert re.findall(r"^([a-z-]+):.* ## ", text, flags=re.MULTILINE) == targets
