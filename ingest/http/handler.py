"""The event loop's entry: coroutines answer the collecting routes, Flask answers everything else."""

import asyncio
from collections.abc import Mapping
from concurrent.futures import Executor
from http import HTTPStatus
from wsgiref.types import WSGIApplication

from ingest.http.body import Stream
from ingest.http.context import RequestContext
from ingest.http.endpoints import CollectEndpoints, Endpoint
from ingest.http.errors import answer_to
from ingest.http.message import Answer, RequestHead
from ingest.http.middleware import COLLECT, PIXEL, VALIDATE, RequestMiddleware
from ingest.http.wsgi import call_flask


class RequestHandler:
    """Answers requests. One event loop uses it.

    Args:
        middleware: what every request passes.
        endpoints: the collecting routes.
        pages: Flask, whose other routes read no body.
        threads: run them.
    """

    def __init__(
        self, middleware: RequestMiddleware, endpoints: CollectEndpoints, pages: WSGIApplication, threads: Executor
    ) -> None:
        self._middleware = middleware
        self._pages = pages
        self._threads = threads
        self._routes: Mapping[tuple[str, str], Endpoint] = {
            ("POST", COLLECT): endpoints.collect,
            ("POST", VALIDATE): endpoints.validate,
            ("GET", PIXEL): endpoints.pixel,
            ("HEAD", PIXEL): endpoints.pixel,
        }

    async def __call__(self, head: RequestHead, stream: Stream) -> Answer:
        """Answer one request; raises only what ends the process."""
        context = self._middleware.open(head, stream)
        try:
            answer = await self._middleware.enter(context)
            if answer is None:
                try:
                    answer = await self._routes.get((head.method, head.path), self._page)(context)
                except Exception as error:  # noqa: BLE001  (defects are logged there)
                    answer = answer_to(error, context)
            return self._middleware.leave(context, answer)
        except BaseException:
            self._middleware.close(context, HTTPStatus.INTERNAL_SERVER_ERROR)
            raise

    async def _page(self, context: RequestContext) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call_flask, self._pages, context)
