"""Arrival links that Prolific signs: a token (JWT, RS256) vouches for the ids beside it, for two minutes.

Source:
    https://docs.prolific.com/api-reference/well-known-endpoints/get-study-jwks
"""

from collections.abc import Mapping

import jwt

from crowd_imi.errors import BadLink, ForgedLink, MalformedLink, Unreachable

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
            BadLink: the link bears no signature.
            MalformedLink: it bears something that is no signature.
            ForgedLink: Prolific didn't sign it, for others, for another site, or longer than two minutes ago.
            Unreachable: its public keys can't be read at the moment.
        """
        token = query.get("prolific_token", "")
        if not token:
            raise BadLink("the link lacks Prolific's signature")
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
            cut = isinstance(error, jwt.DecodeError) and not isinstance(error, jwt.InvalidSignatureError)
            kind = MalformedLink if cut else ForgedLink
            raise kind(f"Prolific's signature of the link doesn't hold ({type(error).__name__})") from None
        signed = claims.get("prolific")
        if not isinstance(signed, Mapping) or any(signed.get(name) != query.get(name) for name in ids):
            raise ForgedLink("Prolific signed this link for other ids")
