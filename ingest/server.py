"""gunicorn's own parts, in our form: its log lines are JSON like all others."""

import logging.config

from gunicorn.config import Config
from gunicorn.glogging import Logger

from ingest.logs import log_config


class ServerLog(Logger):
    """Sends what gunicorn says to the process's log; there is no access log."""

    def setup(self, cfg: Config) -> None:
        """Configure logging; gunicorn calls it at start and again when it reloads its configuration."""
        super().setup(cfg)
        logging.config.dictConfig(log_config(cfg.loglevel.upper()))
