"""Log lines: one JSON object each, on standard error, for the application and for gunicorn alike.

Never a payload, a key or a client's own text: a traceback keeps its frames and the exception's type, not its message
(an encoder's message quotes the value), and what gunicorn says of a request that it could not parse is cut before the
quotation.
"""

import logging
import logging.config
import traceback
from types import TracebackType
from typing import Any, Final

from pythonjsonlogger.json import JsonFormatter

from schemas.librdkafka_log import LIBRARY, LineFilter

REFUSALS: Final = "headrace.refusals"
"""The logger of the one line per refused request; INGEST_LOG_REFUSALS=false silences it, and nothing else."""

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class LineFormatter(JsonFormatter):
    """Formats a record as one JSON object; what `extra` gave become members."""

    def __init__(self) -> None:
        super().__init__(
            "{levelname}{name}{process}{message}",
            style="{",
            timestamp="at",
            rename_fields={"levelname": "level", "name": "logger", "process": "pid", "exc_info": "traceback"},
        )

    def formatException(self, ei: _ExcInfo) -> str:  # noqa: N802  (logging's name)
        """Return the frames and the types of an exception and its causes, without their messages."""
        parts: list[str] = []
        error: BaseException | None = ei[1]
        while error is not None:
            kind = type(error)
            parts.append("".join(traceback.format_tb(error.__traceback__)) + f"{kind.__module__}.{kind.__qualname__}")
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        return "\ncaused by\n".join(parts)


class ServerFilter(logging.Filter):
    """Takes clients' text and addresses out of gunicorn's lines about requests."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass, cut where it would quote a request."""
        text = str(record.msg)
        if text.startswith("Invalid request from ip="):
            reason = text.partition(": ")[2]
            record.msg, record.args = "the server refused a request: " + _before_quotation(reason), ()
        elif text.startswith("Error handling request"):
            record.msg, record.args = "the server failed to handle a request", ()
        elif text.startswith("Ignored premature client disconnection"):  # at DEBUG it quotes what had come by then
            record.msg, record.args = "a client went away before the end of its request", ()
        return True


def _before_quotation(reason: str) -> str:
    for mark in ("'", '"', "(b", ": b"):
        reason = reason.partition(mark)[0]
    return reason.rstrip(" :")[:100]


def log_config(level: str) -> dict[str, Any]:
    """Return the configuration for logging.config.dictConfig."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": LineFormatter}},
        "filters": {"server": {"()": ServerFilter}, "library": {"()": LineFilter}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stderr"}},
        "root": {"level": level, "handlers": ["stderr"]},
        "loggers": {
            "gunicorn.error": {"level": level, "handlers": [], "propagate": True, "filters": ["server"]},
            LIBRARY: {"level": level, "handlers": [], "propagate": True, "filters": ["library"]},
        },
    }


def start_logging(level: str, *, refusals: bool = True) -> None:
    """Send the process's logs to standard error, one JSON object per line.

    Args:
        level: the lowest level logged.
        refusals: whether each refused request gets its line; the metrics count them either way.
    """
    logging.config.dictConfig(log_config(level))
    logging.getLogger(REFUSALS).disabled = not refusals
