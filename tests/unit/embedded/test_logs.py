"""The logs of the embedded parts do not fill the disk."""

from pathlib import Path

from deploy.embedded.logs import LogRotation


def test_a_log_that_has_grown_is_cut_and_its_writer_goes_on(tmp_path: Path) -> None:
    """One older piece is kept, the newest; what is small is left alone."""
    small = tmp_path / "small.log"
    small.write_bytes(b"a")
    with (tmp_path / "grown.log").open("ab", buffering=0) as log:
        for piece in (b"first", b"second"):
            log.write(piece * 20)
            LogRotation(tmp_path, 50).look()
        log.write(b"third")

    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "small.log": b"a",
        "grown.log": b"third",
        "grown.log.1": b"second" * 20,
    }


def test_it_looks_once_a_second(tmp_path: Path) -> None:
    """However often it is asked."""
    rotation = LogRotation(tmp_path, 1)
    rotation.look()
    (tmp_path / "x.log").write_bytes(b"grown")
    rotation.look()

    assert (tmp_path / "x.log").read_bytes() == b"grown"
