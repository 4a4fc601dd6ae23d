"""Prolific's API v1 over HTTP: the token, pages, what may be tried again, and errors in one line."""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from random import uniform
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from requests.auth import AuthBase
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, stop_before_delay

from crowd_imi.errors import PlatformError, Unreachable

LIVE = "https://api.prolific.com"
PATH = "/api/v1/"
TRIES = 10
"""Under 30 % throttles and 10 % server errors a request fails for good once in 10,000."""
FIRST_WAIT, LONGEST_WAIT = 0.1, 30.0
"""Seconds between two tries, also when Prolific asks for more: then the command ends, and is run again later."""
LAST_TRY_SECONDS = 75.0
"""After so long no try is begun any more: together with TIMEOUT less than a spender's lease, which else would be taken over
while the request is still under way."""
TIMEOUT = (10, 30)
PAGE_SIZE = 100
_LONGEST_DETAIL = 300


class _Transient(Exception):
    """A reply after which the same request may be sent again."""

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class NotThere(PlatformError):
    """Prolific doesn't know what was asked for, or it is another account's."""


class _Token(AuthBase):
    """The token as a header; set like this, no .netrc of the user's can take its place."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Token {self._token}"
        return request


class ProlificApi:
    """One account's API.

    Args:
        token: sent along with every request, and nowhere else.
        endpoint: ``https://HOST``, or a stand-in's address on this machine.
        first_wait: seconds before the second try; each further wait is about twice as long.
        patience: seconds after which no try is begun any more, and an answer isn't waited for.

    Raises:
        PlatformError: the token would go to an address that is neither HTTPS nor on this machine.
    """

    def __init__(
        self, token: str, endpoint: str = LIVE, first_wait: float = FIRST_WAIT, patience: float = LAST_TRY_SECONDS
    ) -> None:
        require_private(endpoint)
        self.endpoint = endpoint.rstrip("/")
        self._token = token
        self._first_wait = first_wait
        self._patience = patience
        self._timeout = (min(TIMEOUT[0], patience), min(TIMEOUT[1], patience))
        self._session = requests.Session()
        self._session.auth = _Token(token)
        self._session.headers["Accept"] = "application/json"

    def get(self, path: str, **query: str | int) -> dict[str, Any]:
        """Read one thing."""
        return self._ask("GET", path, query=query)

    def pages(self, path: str, **query: str | int) -> Iterator[dict[str, Any]]:
        """Every entry of a list, whatever its number of pages."""
        url: str | None = path
        asked: Mapping[str, str | int] = {"page_size": PAGE_SIZE, **query}
        seen: set[str] = set()
        while url is not None and url not in seen:
            seen.add(url)
            page = self._ask("GET", url, query=asked)
            yield from page.get("results", ())
            following = (page.get("_links") or {}).get("next") or {}
            url, asked = following.get("href") or None, {}

    def put(self, path: str, content: object, *, method: str = "PATCH") -> dict[str, Any]:
        """Change something; sent again after a failure, so it must come to the same when it is done twice."""
        return self._ask(method, path, content)

    def once(self, path: str, content: object) -> dict[str, Any]:
        """Do something that would be done twice if it were sent twice: tried again only when it was surely not done.

        Raises:
            Unreachable: no answer came; it may have been done.
        """
        return self._ask("POST", path, content, repeatable=False)

    def _ask(
        self,
        method: str,
        path: str,
        content: object = None,
        query: Mapping[str, str | int] | None = None,
        *,
        repeatable: bool = True,
    ) -> dict[str, Any]:
        retrying = Retrying(
            stop=stop_after_attempt(TRIES) | stop_before_delay(self._patience),
            wait=_as_asked(self._first_wait),
            retry=retry_if_exception_type(_Transient),
            sleep=time.sleep,
            reraise=True,
        )
        try:
            return retrying(self._send, method, self._url(path), content, query, repeatable)
        except _Transient as error:
            tries = retrying.statistics["attempt_number"]
            raise Unreachable(f"Prolific gave no answer in {tries} tries ({error}); run the same command again later") from None

    def _url(self, path: str) -> str:
        """An address of this API; a link that leads elsewhere isn't followed, as the token would go there."""
        url = urljoin(f"{self.endpoint}{PATH}", path)
        if urlsplit(url)[:2] != urlsplit(self.endpoint)[:2]:
            raise PlatformError(f"Prolific's list goes on at another address ({urlsplit(url).netloc}), which isn't followed")
        return url

    def _send(
        self, method: str, url: str, content: object, query: Mapping[str, str | int] | None, repeatable: bool
    ) -> dict[str, Any]:
        try:
            reply = self._session.request(method, url, json=content, params=query, timeout=self._timeout, allow_redirects=False)
        except requests.RequestException as error:
            reason = f"{type(error).__name__} at {urlsplit(url).netloc}"
            if repeatable or isinstance(error, requests.exceptions.ConnectTimeout):
                raise _Transient(reason) from None
            raise Unreachable(
                f"Prolific gave no answer ({reason}); it isn't known whether it did what was asked: run the same command again, "
                "which looks first"
            ) from None
        if reply.status_code == 429:
            raise _Transient("too many requests", _seconds(reply.headers.get("Retry-After")))
        if reply.status_code >= 500:
            if repeatable:
                raise _Transient(f"its server failed with status {reply.status_code}")
            raise Unreachable(
                f"Prolific's server failed with status {reply.status_code}; it isn't known whether it did what was asked: run "
                "the same command again, which looks first"
            )
        if not repeatable and reply.status_code < 400:
            return self._done(reply)
        return self._read(reply)

    def _done(self, reply: requests.Response) -> dict[str, Any]:
        """What was said of something that may not be repeated: whatever the words, a 2xx means that it was done."""
        if not reply.ok or reply.status_code >= 300:
            raise Unreachable(f"Prolific answered with status {reply.status_code}; it isn't known whether it did what was asked")
        try:
            content = reply.json() if reply.content else {}
        except ValueError:
            content = {}
        return content if isinstance(content, dict) else {}

    def _read(self, reply: requests.Response) -> dict[str, Any]:
        if reply.status_code == 401:
            raise PlatformError("Prolific doesn't know the token in PROLIFIC_API_TOKEN; make one in its settings")
        try:
            content = reply.json() if reply.content else {}
        except ValueError:
            content = None
        if reply.status_code < 300 and isinstance(content, dict):
            return content
        if reply.status_code < 400:
            address = f"{urlsplit(reply.url).netloc}{urlsplit(reply.url).path}"
            raise PlatformError(f"what answers at {address} isn't Prolific's API; look at the endpoint's address")
        refusal = NotThere if reply.status_code == 404 else PlatformError
        raise refusal(f"Prolific says no: {self._reason(reply, content)}")

    def _reason(self, reply: requests.Response, content: object) -> str:
        error = content.get("error", content) if isinstance(content, dict) else None
        parts: list[str] = []
        if isinstance(error, dict):
            parts = [text for key in ("title", "message", "detail") for text in _texts(error.get(key))]
        text = "; ".join(dict.fromkeys(parts)) or f"status {reply.status_code}"
        short = re.sub(r"\s+", " ", text)[:_LONGEST_DETAIL]
        return short.replace(self._token, "…")


def require_private(endpoint: str) -> None:
    """Make sure that a credential isn't sent in the clear over a network.

    Raises:
        PlatformError: the address is neither HTTPS nor on this machine.
    """
    parts = urlsplit(endpoint)
    if parts.scheme == "https" and parts.hostname:
        return
    if parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost", "::1"):
        return
    raise PlatformError(f"{endpoint}: a credential is only sent to an https:// address, or to one on this machine")


def _as_asked(first_wait: float) -> Callable[[RetryCallState], float]:
    """Wait as long as the reply asks for, else twice as long each time, and a little more by chance."""
    unasked = 0

    def wait(state: RetryCallState) -> float:
        nonlocal unasked
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after if isinstance(error, _Transient) else None
        if asked is not None:
            return min(asked, LONGEST_WAIT)
        unasked += 1
        return min(first_wait * 2.0 ** (unasked - 1), LONGEST_WAIT) + uniform(0, first_wait)

    return wait


def _seconds(header: str | None) -> float | None:
    return float(header) if header is not None and re.fullmatch(r"\d+(\.\d+)?", header) else None


def _texts(detail: object) -> Iterator[str]:
    """The sentences in a detail, which is a text, a list or an object."""
    if isinstance(detail, str):
        yield detail
    elif isinstance(detail, Mapping):
        for key, value in detail.items():
            yield from (f"{key}: {text}" for text in _texts(value))
    elif isinstance(detail, list | tuple):
        for value in detail:
            yield from _texts(value)
