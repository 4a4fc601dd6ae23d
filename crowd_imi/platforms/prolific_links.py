"""Arrival links that Prolific signs: a token (JWT, RS256) vouches for the ids beside it, for two minutes.

Source:
    https://docs.prolific.com/api-reference/well-known-endpoints/get-study-jwks
"""

from collections.abc import Mapping

import jwt

from crowd_imi.errors import BadLink, Unreachable

KEYS = "/.well-known/study/jwks.json"
KEPT_SECONDS = 12 * 3600
"""How long the public keys are kept; Prolific wants them read anew every day."""


class SignedLinks:
    """Whose signature a link must bear.

    Args:
        endpoint: of Prolific's API, without its path.
        audience: the pages' own origin, ``https://HOST``; not looked at where it isn't known.
        seconds: that the keys are waited for.
    """

    def __init__(self, endpoint: str, audience: str | None, seconds: float) -> None:
        self._audience = audience
        self._keys = jwt.PyJWKClient(f"{endpoint}{KEYS}", lifespan=KEPT_SECONDS, timeout=int(seconds))

    def require(self, query: Mapping[str, str], ids: tuple[str, ...]) -> None:
        """Make sure that Prolific signed a link for just these ids, just now.

        Args:
            query: the link's parameters.
            ids: names of those that must be the signed ones.

        Raises:
            BadLink: it didn't, for others, for another site, or longer than two minutes ago.
            Unreachable: its public keys can't be read at the moment.
        """
        token = query.get("prolific_token", "")
        try:
            claims = jwt.decode(
                token,
                self._keys.get_signing_key_from_jwt(token).key,
                algorithms=["RS256"],
                audience=self._audience,
                options={"require": ["exp"], "verify_aud": self._audience is not None},
            )
        except jwt.PyJWKClientConnectionError:
            raise Unreachable("Prolific's public keys can't be read at the moment; try again in a minute") from None
        except jwt.PyJWTError as error:
            raise BadLink(f"Prolific's signature of the link doesn't hold ({type(error).__name__})") from None
        signed = claims.get("prolific")
        if not isinstance(signed, Mapping) or any(signed.get(name) != query.get(name) for name in ids):
            raise BadLink("Prolific signed this link for other ids")
