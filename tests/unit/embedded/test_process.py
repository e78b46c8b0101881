"""How a program of the embedded pipeline is told to end."""

import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
LIMIT_S = 30

# A signal at each line that the waiting thread executes, one after another: a handler that needs a lock which the
# interrupted line holds never returns.
INTERRUPT_EVERYWHERE = """
import signal, sys, time
from deploy.embedded.process import StopRequest

for line in range(1, 12):
    stop, seen = StopRequest(), 0
    def trace(frame, event, argument):
        global seen
        if event == "line":
            seen += 1
            if seen == line:
                signal.raise_signal(signal.SIGTERM)
        return trace
    def wait():
        while not stop.asked:
            time.sleep(0)
    sys.settrace(trace)
    wait()
    sys.settrace(None)
print("ended")
"""


def test_a_signal_at_any_moment_ends_the_waiting() -> None:
    """Whatever line it interrupts."""
    command = [sys.executable, "-c", INTERRUPT_EVERYWHERE]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert (ended.returncode, ended.stdout) == (0, "ended\n"), ended.stderr


def test_both_signals_count() -> None:
    """SIGTERM from an orchestrator, SIGINT from a terminal."""
    code = "import signal, sys; from deploy.embedded.process import StopRequest; stop = StopRequest()\n"
    code += "signal.raise_signal(int(sys.argv[1])); print(stop.asked)"
    for number in (signal.SIGTERM, signal.SIGINT):
        command = [sys.executable, "-c", code, str(int(number))]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        assert ended.stdout == "True\n", ended.stderr
