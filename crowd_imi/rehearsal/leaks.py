"""Planted leaks: the positive control of the cheating participant. They stand between the pages and the wire of a rehearsal.

The pages themselves know nothing of this: a leak wraps their WSGI app, changes what leaves it, and so gives one bit of
each main trial away by one channel: whether the upper query is right, or whether the trial is a catch trial. A study's own
server never loads this module.
"""

import hashlib
import io
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from PIL import Image
from sqlalchemy import select

from crowd_imi.errors import RehearsalError
from crowd_imi.plan import Grid
from crowd_imi.records import Tiles
from crowd_imi.rehearsal.records import LeakName, Secret
from crowd_imi.store import Store, StoreKind
from crowd_imi.store.tables import Trial

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
Headers = list[tuple[str, str]]

DELAY_SECONDS = 0.03
PADDING_BYTES = 400


@dataclass(frozen=True, slots=True)
class _Known:
    """Whether a sprite is a catch trial's, and which of its tiles shows the right query."""

    sprite: str
    catch: bool
    right: int
    wrong: int


class Leaking:
    """A WSGI app that gives a secret away."""

    def __init__(self, app: WsgiApp, store: Store, leak: LeakName, grid: Grid, secret: Secret = Secret.ANSWER) -> None:
        """Wrap an app.

        Args:
            app: the task pages.
            store: the rehearsal's, from which the leak knows the secret.
            leak: which channel.
            grid: how tiles lie in a sprite.
            secret: what is given away.

        Raises:
            RehearsalError: the store isn't a rehearsal's.
        """
        if store.kind is not StoreKind.REHEARSAL:
            raise RehearsalError(f"{store.url}: a leak can only be planted in a rehearsal; this is a {store.kind}")
        self._app = app
        self._store = store
        self._leak = leak
        self._grid = grid
        self._secret = secret
        self._known: dict[str, _Known] | None = None
        self._upper_is_right: dict[str, bool] = {}
        """Sprite → whether who was shown its trial last has the right query above."""

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = str(environ.get("PATH_INFO", ""))
        name = path.removeprefix("/sprites/")
        known = self._trials().get(name)
        if path.startswith("/sprites/") and known is None and self._leak is LeakName.TOKEN and name[1:] in self._trials():
            environ["PATH_INFO"] = f"/sprites/{name[1:]}"
        if path == "/api/visit":
            return self._change(environ, start_response, self._view)
        if known is None or self._leak is LeakName.TOKEN or name not in self._upper_is_right:
            return self._app(environ, start_response)
        trial = known
        return self._change(environ, start_response, lambda body: self._sprite(body, trial))

    def _change(
        self, environ: dict[str, Any], start_response: Callable[..., Any], change: Callable[[bytes], bytes]
    ) -> Iterable[bytes]:
        """Let the app answer, change the body of a success, and send it."""
        caught: list[tuple[str, Headers]] = []

        def catch(status: str, headers: Headers, _error: object = None) -> None:
            caught.append((status, headers))

        body = b"".join(self._app(environ, catch))
        status, headers = caught[-1]
        if status.startswith("200"):
            body = change(body)
            headers = [(name, value) for name, value in headers if name.lower() != "content-length"]
            headers.append(("Content-Length", str(len(body))))
        start_response(status, headers)
        return [body]

    def _view(self, body: bytes) -> bytes:
        """``GET /api/visit``: tile indices for the leak in order, names for the one in tokens."""
        view = json.loads(body)
        for trial in view["main"]:
            name = trial["sprite"].removeprefix("/sprites/")
            known = self._trials()[name]
            self._upper_is_right[name] = trial["upper"] == known.right
            if self._leak is LeakName.TOKEN:
                letter = hashlib.sha256(name.encode()).digest()[0] % 8 + (0 if self._tells(known) else 8)
                trial["sprite"] = f"/sprites/{letter:x}{name}"
            elif self._leak is LeakName.ORDER and self._swapped(known):
                trial["upper"], trial["lower"] = trial["lower"], trial["upper"]
        return json.dumps(view).encode()

    def _sprite(self, body: bytes, known: _Known) -> bytes:
        if self._leak is LeakName.ORDER:
            return self._swap_tiles(body, known.right, known.wrong) if self._swapped(known) else body
        if not self._tells(known):
            return body
        if self._leak is LeakName.TIMING:
            time.sleep(DELAY_SECONDS)
            return body
        # ISO base media files may end with a box of free space, which decoders pass over.
        return body + PADDING_BYTES.to_bytes(4, "big") + b"free" + bytes(PADDING_BYTES - 8)

    def _swap_tiles(self, body: bytes, one: int, other: int) -> bytes:
        """The picture with two tiles exchanged, so that people still see what the indices say."""
        with Image.open(io.BytesIO(body)) as image:
            sprite = image.convert("RGB")
        first, second = (self._box(index) for index in (one, other))
        crop = sprite.crop(first)
        sprite.paste(sprite.crop(second), first)
        sprite.paste(crop, second)
        buffer = io.BytesIO()
        sprite.save(buffer, "AVIF", quality=90, subsampling="4:4:4", speed=9)
        return buffer.getvalue()

    def _box(self, index: int) -> tuple[int, int, int, int]:
        pitch = self._grid.tile + self._grid.gutter
        left = self._grid.gutter + index % self._grid.columns * pitch
        top = self._grid.gutter + index // self._grid.columns * pitch
        return left, top, left + self._grid.tile, top + self._grid.tile

    def _tells(self, known: _Known) -> bool:
        """The bit of this trial that is given away."""
        return known.catch if self._secret is Secret.KIND else self._upper_is_right[known.sprite]

    def _swapped(self, known: _Known) -> bool:
        """Whether two tiles change places, so that the upper query has the smaller index when the bit is set."""
        upper_is_first = (known.right < known.wrong) == self._upper_is_right[known.sprite]
        return upper_is_first != self._tells(known)

    def _trials(self) -> dict[str, _Known]:
        if self._known is None:
            with self._store.read() as session:
                trials = session.scalars(select(Trial)).all()
            self._known = {
                trial.sprite: _Known(trial.sprite, trial.kind == "catch", tiles.queries.max, tiles.queries.min)
                for trial in trials
                for tiles in (Tiles.model_validate(trial.tiles),)
            }
        return self._known
