"""Addresses that people give on the command line: looked at once, before anything is kept or asked."""

from urllib.parse import urlsplit

from crowd_imi.errors import PlatformError


def require_address(option: str, url: str) -> None:
    """Make sure that this is an http or https address and nothing else.

    Raises:
        PlatformError: it isn't, or it holds a user name or a password, which it would be kept with.
    """
    right = "right would be https://pages.your-lab.org"
    if not url.isascii() or not url.isprintable() or " " in url:
        raise PlatformError(f"{option} {url!r}: an address has no spaces and no letters beyond ASCII; {right}")
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 0) >= 0
    except ValueError:
        usable = False
    if not usable:
        raise PlatformError(f"{option} {url}: this is no address; {right}")
    if "@" in parts.netloc:
        raise PlatformError(f"{option}: this address holds a user name or a password, which it would be kept with; leave it out")
