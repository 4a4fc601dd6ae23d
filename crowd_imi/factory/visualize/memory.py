"""Memory that the C library keeps.

Every step of an ascent asks for the same large blocks again. glibc hands such blocks back to the system at once, which clears
them page by page when they are asked for anew: a third to a half of a step's time on a CPU.
"""

import ctypes
import sys
from functools import cache

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_ROOM = 256 * 2**20


@cache
def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, where its C library is glibc; elsewhere nothing happens."""
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, _ROOM)):
            mallopt(option, value)
