"""What a process without a store for the rate limit does without."""

import subprocess
import sys


def test_the_client_of_redis_is_not_loaded_with_the_service() -> None:
    """Most have no store, and its client is a quarter of a start and 7 MB."""
    look = "import sys, ingest.service; sys.exit('redis' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", look], check=False).returncode == 0
