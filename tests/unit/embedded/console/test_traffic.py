"""The switch: one program at a time, and none but those that it knows."""

import signal
from pathlib import Path

import pytest

from bench.traffic import main as send_traffic
from deploy.embedded.console.traffic import MODES, Traffic, is_available


class FakeProgram:
    """A program that runs until it is stopped or has ended."""

    def __init__(self, command: list[str]) -> None:
        self.command = command
        self.code: int | None = None

    def exit_code(self) -> int | None:
        """Return the exit code."""
        return self.code

    def stop(self, first: signal.Signals = signal.SIGTERM, timeout_s: float = 10.0) -> int:
        """Stop."""
        assert timeout_s > 0
        self.code = -first
        return self.code


class Started(list[FakeProgram]):
    """Remembers what was started."""

    def __call__(self, command: list[str], log_path: Path) -> FakeProgram:
        """Start a command."""
        assert log_path.name == "traffic.log"
        self.append(FakeProgram(command))
        return self[-1]


@pytest.fixture
def started() -> Started:
    """What was started so far."""
    return Started()


@pytest.fixture
def traffic(started: Started) -> Traffic:
    """A switch that is off."""
    return Traffic("http://127.0.0.1:8080", Path("traffic.log"), started)


def test_it_is_off_until_it_is_switched_on(traffic: Traffic) -> None:
    """No traffic that nobody asked for."""
    assert traffic.state() == {"mode": "", "left_s": None, "has_failed": False}


@pytest.mark.parametrize("mode", MODES)
def test_each_mode_is_understood_by_the_program(
    mode: str, traffic: Traffic, started: Started, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its options are real ones; --help at their end shows that the others were read."""
    traffic.begin(mode)
    options = started[0].command[3:]
    monkeypatch.setattr("sys.argv", ["traffic", *options, "--help"])

    with pytest.raises(SystemExit) as end:
        send_traffic()

    assert end.value.code == 0
    assert "usage" in capsys.readouterr().out
    assert traffic.state()["mode"] == mode


def test_another_mode_stops_the_first(traffic: Traffic, started: Started) -> None:
    """Never two at once."""
    traffic.begin("live-10")
    traffic.begin("live-50")

    assert [program.code for program in started] == [-signal.SIGTERM, None]
    assert traffic.state()["mode"] == "live-50"
    traffic.stop()
    assert started[1].code == -signal.SIGTERM
    assert traffic.state()["mode"] == ""


@pytest.mark.parametrize(("code", "has_failed"), [(0, False), (1, True)])
def test_traffic_that_ended_is_off(code: int, traffic: Traffic, started: Started, *, has_failed: bool) -> None:
    """And says whether it failed."""
    traffic.begin("past")
    started[0].code = code

    assert traffic.state() == {"mode": "", "left_s": None, "has_failed": has_failed}


def test_the_program_is_there_in_a_checkout() -> None:
    """`make run` installs no more than it needs, and needs this."""
    assert is_available()
