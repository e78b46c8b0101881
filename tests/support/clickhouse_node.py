"""The embedded ClickHouse, configured by a directory: `python -m tests.support.clickhouse_node DIRECTORY …`."""

import os
import sys
from pathlib import Path

from deploy.embedded import clickhouse

if __name__ == "__main__":
    clickhouse._CONFIG = Path(sys.argv[1])  # type: ignore[misc]  # noqa: SLF001  (a server has no other way to it)
    # The sandbox lets it connect nowhere, and shards connect to each other.
    clickhouse.confine = lambda *_: True  # type: ignore[attr-defined]  # imported there
    code = clickhouse.main(sys.argv[2:])
    sys.stdout.flush()
    os._exit(code)  # as the program itself does
