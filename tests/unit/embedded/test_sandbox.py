"""What is left of files, programs and the network to a confined thread; each in its own process."""

import platform
import struct
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
LIMIT_S = 30

TRIES = """
import os, socket, sys, threading
from pathlib import Path
import deploy.embedded.sandbox as sandbox

inside, outside = Path(sys.argv[1]), Path(sys.argv[2])
readable, writable = inside / "readable", inside / "writable"
server = socket.create_server(("127.0.0.1", 0))

(writable / "link").symlink_to(outside / "file")

def tried(call):
    try:
        call()
    except OSError as error:
        return type(error).__name__
    return "done"

def tries():
    return {
        "read outside": tried(lambda: (outside / "file").read_bytes()),
        "list outside": tried(lambda: os.listdir(outside)),
        "write outside": tried(lambda: (outside / "new").write_bytes(b"")),
        "cut outside": tried(lambda: os.truncate(outside / "file", 0)),
        "read readable": tried(lambda: (readable / "file").read_bytes()),
        "write readable": tried(lambda: (readable / "new").write_bytes(b"")),
        "write writable": tried(lambda: (writable / "new").write_bytes(b"")),
        "rename writable": tried(lambda: (writable / "new").rename(writable / "below" / "new")),
        "delete writable": tried(lambda: (writable / "below" / "new").unlink()),
        "read a link": tried(lambda: (writable / "link").read_bytes()),
        "run a program": tried(lambda: os.waitpid(os.posix_spawn(writable / "program", ["true"], {}), 0)),
        "connect": tried(lambda: socket.create_connection(server.getsockname(), 5)),
    }

def in_thread():
    try:
        print(sandbox.confine([readable], [writable]), tries())
    except OSError as error:
        print(error)

thread = threading.Thread(target=in_thread)
thread.start()
thread.join()
print("elsewhere", tried(lambda: (outside / "file").read_bytes()))
"""


# exit(0), and nothing else: a program that needs no other file to run.
EXIT = {
    "x86_64": (62, bytes.fromhex("b83c000000 31ff 0f05")),
    "aarch64": (183, bytes.fromhex("000080d2 a80b80d2 010000d4")),
}


def program() -> bytes:
    """Return the smallest of programs for this machine, in ELF."""
    machine, code = EXIT[platform.machine()]
    base, head = 0x400000, 64 + 56
    header = struct.pack(
        "<4s4B8xHHIQQQIHHHHHH", b"\x7fELF", 2, 1, 1, 0, 2, machine, 1, base + head, 64, 0, 0, 64, 56, 1, 0, 0, 0
    )
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, head + len(code), head + len(code), 0x1000)
    return header + segment + code


def run(tmp_path: Path, before: str = "") -> list[str]:
    """Return what the program says: of the confined thread, and of the others."""
    for directory in ("inside/readable", "inside/writable/below", "outside"):
        (tmp_path / directory).mkdir(parents=True)
    for directory in ("inside/readable", "outside"):
        (tmp_path / directory / "file").write_text("text")
    (tmp_path / "inside" / "writable" / "program").write_bytes(program())
    (tmp_path / "inside" / "writable" / "program").chmod(0o755)
    code = TRIES.replace("inside, outside =", f"{before}\ninside, outside =", 1)
    command = [sys.executable, "-c", code, str(tmp_path / "inside"), str(tmp_path / "outside")]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=True)
    return ended.stdout.splitlines()


def test_a_confined_thread_has_its_directories_alone(tmp_path: Path) -> None:
    """Other threads of the process keep everything."""
    confined, others = run(tmp_path)
    no = "PermissionError"
    assert (
        confined
        == f"""True {
            {
                "read outside": no,
                "list outside": no,
                "write outside": no,
                "cut outside": no,
                "read readable": "done",
                "write readable": no,
                "write writable": "done",
                "rename writable": "done",
                "delete writable": "done",
                "read a link": no,
                "run a program": no,
                "connect": no,
            }
        }"""
    )
    assert others == "elsewhere done"


def test_a_kernel_without_it_changes_nothing(tmp_path: Path) -> None:
    """The caller is told, and says so."""
    confined, others = run(tmp_path, "sandbox._CREATE_RULESET = 1_000_000  # no such system call")
    assert confined.startswith("False ")
    assert "Error" not in confined
    assert others == "elsewhere done"


def test_a_refusal_of_the_kernel_is_an_error(tmp_path: Path) -> None:
    """Nobody goes on as if confined."""
    confined, _ = run(tmp_path, "sandbox._RESTRICT_SELF = 1_000_000  # no such system call")
    assert confined == "[Errno 38] Function not implemented"
