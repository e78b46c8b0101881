"""`python -m ingest`: check the settings, then become gunicorn."""

import os
import sys

from ingest.settings import load


def main() -> None:
    """Replace this process by gunicorn; exit 2 with one sentence when a setting is wrong."""
    try:
        settings = load(os.environ)
    except ValueError as error:
        sys.exit(f"ingest: {error}")
    if not os.path.isfile(settings.gunicorn_config):  # noqa: PTH113  (one question)
        sys.exit(f"ingest: INGEST_GUNICORN_CONFIG: there is no file {settings.gunicorn_config}")
    os.execv(sys.executable, [sys.executable, "-m", "gunicorn", "--config", settings.gunicorn_config])  # noqa: S606  (our own interpreter)


if __name__ == "__main__":
    main()
