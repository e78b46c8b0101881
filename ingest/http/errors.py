"""Error answers: the same JSON document for every error."""

import logging
from http import HTTPStatus
from typing import Final

from ingest.errors import Rejected, Unavailable
from ingest.http.context import RequestContext
from ingest.http.headers import prefers_minimal
from ingest.http.message import Answer, Headers
from ingest.http.responses import JSON, error_body

log = logging.getLogger(__name__)

_DEFECT: Final = "the collector failed; the log has the cause under this request's id"


def error_answer(status: int, message: str, headers: Headers = ()) -> Answer:
    """Return the answer of an error that has a status and a sentence."""
    return Answer(status, error_body(status, message), [("Content-Type", JSON), *headers])


def answer_to(error: Exception, context: RequestContext) -> Answer:
    """Return the answer of an error of ours, or of a defect, which is logged; the context hears its code."""
    if isinstance(error, Rejected):
        context.outcome = error.code
        faults = () if prefers_minimal(context.header("prefer")) else error.faults
        body = error_body(error.status, error.message, faults)
        return Answer(error.status, body, [("Content-Type", JSON), *error.headers])
    if isinstance(error, Unavailable):
        context.outcome = error.code
        return error_answer(error.status, error.message, [("Retry-After", str(error.retry_after_s))])
    log.error("defect", exc_info=error, extra={"request_id": context.request_id})
    return error_answer(HTTPStatus.INTERNAL_SERVER_ERROR, _DEFECT)
