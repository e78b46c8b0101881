"""Runs all benches of docs/PERFORMANCE.md, and writes the documents: `python -m bench` (ten minutes)."""

import argparse
import subprocess
import sys
from typing import Final

_MODULES: Final = ("bench.ingress", "bench.sink", "bench.freshness", "bench.pages")


def main() -> None:
    """Run one after the other; end at the first that fails."""
    argparse.ArgumentParser(prog="python -m bench", description=__doc__).parse_args()
    for module in _MODULES:
        print(module, flush=True)
        subprocess.run([sys.executable, "-m", module], check=True)


if __name__ == "__main__":
    main()
