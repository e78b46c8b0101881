"""How many connections a process may have, by what it may open."""

import resource
import subprocess
import sys

import pytest

from ingest.open_files import connections_within

_RAISE = """
import resource
from ingest.open_files import raise_limit
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
print(raise_limit(1000), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(
    ("soft", "hard", "said"),
    [
        (256, 4096, "1128 1128 4096"),
        (1024, 1024, "1024 1024 1024"),
        (256, 512, "512 512 512"),
        (2048, 4096, "1128 2048 4096"),
    ],
    ids=["raised", "as far as it goes", "to the hard limit", "enough"],
)
def test_the_soft_limit_is_raised_to_what_is_needed(soft: int, hard: int, said: str) -> None:
    """And not beyond; the hard limit is the machine's to decide."""
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] >= hard
    program = _RAISE.format(soft=soft, hard=hard)

    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)

    assert run.stdout.strip() == said


def test_where_there_is_room_for_all_nothing_is_said() -> None:
    """The setting counts."""
    assert connections_within(1128, 1000) == (1000, "")
    assert connections_within(10**6, 1000) == (1000, "")


def test_where_there_is_not_fewer_are_taken_and_a_sentence_says_so() -> None:
    """Files for the spool, the broker and the rest stay free; at the very least one connection is taken."""
    assert connections_within(1024, 1000) == (
        896,
        (
            "INGEST_CONNECTIONS_MAX (1000) needs 1128 open files in each worker process, but only 1024 are allowed "
            "(ulimit -Hn): it accepts 896 connections"
        ),
    )
    assert connections_within(64, 1000)[0] == 1
