"""Writes log lines of the application and gunicorn as JSON objects on standard error.

No line holds a payload, a key or a client's text: a traceback keeps its frames and the exception's type, not its
message (an encoder's message quotes the value), and of a malformed request only the kind is said.
"""

import logging
import logging.config
import threading
import traceback
from collections.abc import Callable
from time import monotonic
from types import TracebackType
from typing import Any, Final

from pythonjsonlogger.json import JsonFormatter

from schemas.transport.librdkafka_log import LIBRARY, LineFilter

LINES_PER_S: Final = 10
_KINDS_MAX: Final = 1000  # our messages are constants; a library's may not be
REFUSALS: Final = "headrace.refusals"
"""The logger of refused requests; INGEST_LOG_REFUSALS=false silences it, and nothing else."""

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class LineFormatter(JsonFormatter):
    """Formats a record as one JSON object with the members of `extra`."""

    def __init__(self) -> None:
        super().__init__(
            "{levelname}{name}{process}{message}",
            style="{",
            timestamp="at",
            rename_fields={"levelname": "level", "name": "logger", "process": "pid", "exc_info": "traceback"},
        )

    def formatException(self, ei: _ExcInfo) -> str:  # noqa: N802  (logging's name)
        """Return the frames and types of an exception and its causes, without their messages."""
        parts: list[str] = []
        error: BaseException | None = ei[1]
        while error is not None:
            kind = type(error)
            parts.append("".join(traceback.format_tb(error.__traceback__)) + f"{kind.__module__}.{kind.__qualname__}")
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        return "\ncaused by\n".join(parts)


class LineBudget(logging.Filter):
    """Passes a bounded number of lines of one kind per second; the next one says how many were suppressed.

    A kind is a logger and a message template. So clients can't flood the log, or hide other lines.
    """

    def __init__(self, lines_per_s: int, now_s: Callable[[], float] = monotonic) -> None:
        super().__init__()
        self._lines_per_s = lines_per_s
        self._now_s = now_s
        self._lock = threading.Lock()
        self._kinds: dict[tuple[str, str], _Second] = {}

    def __len__(self) -> int:
        """Return the number of known kinds."""
        return len(self._kinds)

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a line passes."""
        now_s = self._now_s()
        with self._lock:
            second = self._kinds.get((record.name, str(record.msg)))
            if second is not None and now_s - second.since_s < 1:
                second.lines += 1
                return second.lines <= self._lines_per_s
            if len(self._kinds) >= _KINDS_MAX:
                self._kinds.clear()
            self._kinds[record.name, str(record.msg)] = _Second(now_s)
        suppressed = second.lines - self._lines_per_s if second is not None else 0
        if suppressed > 0:
            record.suppressed = suppressed
        return True


class _Second:
    """Counts the lines of one kind in one second."""

    __slots__ = ("lines", "since_s")

    def __init__(self, since_s: float) -> None:
        self.since_s = since_s
        self.lines = 1


def log_config(level: str, lines_per_s: int = LINES_PER_S) -> dict[str, Any]:
    """Return the configuration for logging.config.dictConfig."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": LineFormatter}},
        "filters": {
            "library": {"()": LineFilter},
            "budget": {"()": LineBudget, "lines_per_s": lines_per_s},
        },
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "formatter": "json",
                "filters": ["budget"],
                "stream": "ext://sys.stderr",
            }
        },
        "root": {"level": level, "handlers": ["stderr"]},
        "loggers": {
            "gunicorn.error": {"level": level, "handlers": [], "propagate": True},
            LIBRARY: {"level": level, "handlers": [], "propagate": True, "filters": ["library"]},
        },
    }


def start_logging(level: str, lines_per_s: int = LINES_PER_S, *, refusals: bool = True) -> None:
    """Send the process's logs to standard error, one JSON object per line.

    Args:
        level: the lowest level logged.
        lines_per_s: the most lines of one kind per second.
        refusals: whether to log each refused request; the metrics count them either way.
    """
    logging.config.dictConfig(log_config(level, lines_per_s))
    logging.getLogger(REFUSALS).disabled = not refusals
