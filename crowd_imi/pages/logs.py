"""Logs as JSON lines: each request has an id, and nothing in a line says who somebody is.

A line of a request holds its method, the pattern of its address, its status and how long it took: no address of a
computer, no parameters, no token, no user agent. ``X-Request-Id`` in the reply is what a participant can quote.
"""

import json
import logging
import secrets
import time
from typing import Any

from flask import Flask, Response, g, has_request_context, request

log = logging.getLogger(__name__)

REQUEST_ID = "X-Request-Id"


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if has_request_context() and "request_id" in g:
            line["request"] = g.request_id
        line |= getattr(record, "facts", {})
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def log_as_json() -> None:
    """From now on this process's logs are JSON lines."""
    for handler in logging.getLogger().handlers:
        handler.setFormatter(JsonLines())


def log_requests(app: Flask) -> None:
    """Give each request an id, and write a line about it at level ``info`` when its reply is made."""

    @app.before_request
    def begin() -> None:
        # Ours, whatever a proxy or a browser sends along: that might say who somebody is.
        g.request_id = secrets.token_hex(8)
        g.request_begin = time.perf_counter()

    @app.after_request
    def end(response: Response) -> Response:
        if "request_id" not in g:
            return response
        response.headers[REQUEST_ID] = g.request_id
        facts = {
            "method": request.method if request.method in KNOWN else "other",
            "route": request.url_rule.rule if request.url_rule is not None else "unknown",
            "status": response.status_code,
            "ms": round(1000 * (time.perf_counter() - g.request_begin), 1),
        }
        log.info("%(method)s %(route)s %(status)s", facts, extra={"facts": facts})
        return response


KNOWN = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
