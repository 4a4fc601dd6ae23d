"""What the page shows for itself: a signed token that says which visit it is, and which arrival of it."""

from functools import lru_cache

from itsdangerous import BadSignature, URLSafeSerializer
from pydantic import TypeAdapter, ValidationError

from crowd_imi.errors import Refused

_CONTENT = TypeAdapter(tuple[str, int])
_LONGEST = 200
"""Characters; ours have some fifty. Decoding passes over foreign ones, so that a good token could be made of any length."""
_REMEMBERED = 10_000
"""Tokens that were found good: a page sends the same one some sixty times, and what we signed once stays so."""


class Tokens:
    """Signs and reads tokens with the study's key; they go in a header, never in a cookie."""

    def __init__(self, key: bytes) -> None:
        self._visits = URLSafeSerializer(key, salt="visit")
        self._previews = URLSafeSerializer(key, salt="preview")
        self._known = lru_cache(_REMEMBERED)(self._check)

    def for_visit(self, visit_id: str, generation: int) -> str:
        """The token of one arrival of a visit; an earlier arrival's has ended."""
        return str(self._visits.dumps([visit_id, generation]))

    def read(self, token: str) -> tuple[str, int]:
        """The visit's id and the generation that a token was made for.

        Raises:
            Refused: nobody here signed it.
        """
        return self._known(token if len(token) <= _LONGEST else "")

    def _check(self, token: str) -> tuple[str, int]:
        try:
            return _CONTENT.validate_python(self._visits.loads(token))
        except (BadSignature, ValidationError):
            raise Refused(
                "This page can't tell who you are; please open the study again from where you chose it.", 401, "bad-token"
            ) from None

    def for_preview(self, study: str) -> str:
        """What makes a preview's link work: whoever has it may look at the tasks."""
        return str(self._previews.dumps(study))

    def is_preview(self, token: str, study: str) -> bool:
        """Whether a preview's link is one of ours."""
        try:
            return bool(self._previews.loads(token) == study)
        except BadSignature:
            return False
