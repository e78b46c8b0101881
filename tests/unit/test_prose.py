"""The project's prose has no phrases that readers stumbled over: each line names one, and the plain form."""

import ast
import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
# A tired operator reads each sentence once. These phrases were read twice, or named a thing by a private word.
BANNED: Final = {
    r"whoever|whomever|whatever becomes of": "name the subject",
    r"what is none|is none of": "is not",
    r"nobody can (?:tell|say)|as far as anybody can tell": "is unknown",
    r"(?:made|make|makes|making|begins?|asks?|start) (?:\w+ )?anew": "recreate, again",
    r"of (?:its|their|our|your) own\b(?! [a-z])": "its own, separate",
    r"speaks? against": "counts as a failure",
    r"without a word": "silently",
    r"(?:gets|get|got) on\b(?! with)": "makes progress",
    r"vouch(?:es)? for": "is known",
    r"good standing": "valid",
    r"what it came to|what they came to": "the result",
    r"only a person|for a person|a person has acted|needs a person": "an operator",
    r"the door|at the door|the gate\b": "the middleware, access control",
    r"the books|the ledger|its account in": "the counters, the table `offsets`",
    r"\blanes?\b": "partition",
    r"(?<!dead )(?<!dead-)\b(?:its|the|all|of|chosen|their|for) letters?\b": "dead letter",
    r"\bmend(?:s|ed|ing)?\b": "repair",
    r"\btwins?\b": "probe table",
    r"\bpatrols?\b": "background audit",
    r"\bincarnations?\b": "topic ID",
}
_PATTERN: Final = re.compile("|".join(f"(?:{pattern})" for pattern in BANNED), re.IGNORECASE)
PROSE: Final = ("*.md", "*.py", "*.sql", "*.yml", "*.toml", "*.xml", "Makefile", "deploy/Dockerfile.*", ".ci/run")
EXCLUDED: Final = ("tests/unit/test_prose.py",)  # it names them


def texts_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line numbers and prose that may have a phrase: of Python, comments and strings; of SQL, comments; else all.

    Names in code are not prose, and applied migrations keep the text of their columns' comments.
    """
    source = path.read_text("utf-8")
    if path.suffix == ".py":
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
                yield node.lineno, node.value
        # A comment ends its line. Tokens cost as much as all else, and few files have a phrase behind a number sign.
        if any(_PATTERN.search(line, line.index("#")) for line in source.splitlines() if "#" in line):
            for token in tokenize.generate_tokens(io.StringIO(source).readline):
                if token.type == tokenize.COMMENT:
                    yield token.start[0], token.string
        return
    for number, line in enumerate(source.splitlines(), 1):
        if path.suffix != ".sql" or line.startswith("--"):
            yield number, line


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    """Return the tracked files that hold prose."""
    listed = subprocess.run(["git", "ls-files", *PROSE], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in listed.stdout.splitlines() if not name.startswith(EXCLUDED)]


def test_no_sentence_has_a_banned_phrase(tracked: list[Path]) -> None:
    """Write what the phrase's plain form says; the table above has it."""
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match[0]!r}"
        for path in tracked
        for number, text in texts_of(path)
        for match in _PATTERN.finditer(text)
    ]

    assert found == []
    assert len(tracked) > 0


def test_comments_docstrings_and_messages_are_read_and_names_are_not(tmp_path: Path) -> None:
    """A phrase counts where a person reads it; SQL's applied columns keep their comments."""
    code = tmp_path / "code.py"
    code.write_text('"""Whoever reads."""\nlane = 1  # the lane\nsay("nobody can tell")\n')
    script = tmp_path / "script.sql"
    script.write_text("-- Made anew.\nALTER TABLE t COMMENT COLUMN c 'an incarnation';\n")

    found = [[match[0] for _, text in texts_of(path) for match in _PATTERN.finditer(text)] for path in (code, script)]

    assert found == [["Whoever", "nobody can tell", "lane"], ["Made anew"]]
