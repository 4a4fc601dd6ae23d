"""Could the participant see the pictures, and did they stay with them?"""

from crowd_imi.criteria.submission import Check, Submission

_LEFT, _CAME_BACK = frozenset({"blur", "hidden"}), frozenset({"focus", "visible", "arrived_again"})


def time_away(submission: Submission, *, at_most: float) -> Check:
    """Seconds of the longest time without the window's focus from the end of practice to submission.

    The browser reports that it lost or got back the focus, and the server's clock says when the reports came. Reports may be
    lost, and a page that is opened anew sends none: who arrives again or answers is back as well.

    Args:
        submission: the participant's work.
        at_most: most seconds that pass; inclusive.

    Returns:
        Nothing measured when the trials weren't reached or never submitted; 0 for who stayed all the time.
    """
    begin, end = submission.practised_at, submission.submitted_at
    longest = None if begin is None or end is None else _longest_away(submission, begin, end) / 1000
    return Check(
        criterion="time_away",
        passed=None if longest is None else longest <= at_most,
        measured=longest,
        limit=f"at most {at_most:g} s at a time without the window's focus",
        clock="server",
    )


def tile_size(submission: Submission, *, at_least: float) -> Check:
    """CSS pixels on a side of a picture, the smallest of what the browser reported during the trials.

    Args:
        submission: the participant's work.
        at_least: smallest size that passes; inclusive.

    Returns:
        Nothing measured when the browser never said.
    """
    begin = submission.practised_at
    told = [look for look in submission.looks if look.tile_px is not None]
    before = [look.tile_px for look in told if begin is None or look.at <= begin][-1:]
    during = [look.tile_px for look in told if begin is not None and look.at > begin]
    smallest = min((size for size in (*before, *during) if size is not None), default=None)
    return Check(
        criterion="tile_size",
        passed=None if smallest is None else smallest >= at_least,
        measured=smallest,
        limit=f"pictures at least {at_least:g} CSS pixels on a side",
    )


def _longest_away(submission: Submission, begin: int, end: int) -> int:
    longest, left = 0, None
    told = [(look.at, look.kind in _LEFT) for look in submission.looks if look.kind in _LEFT | _CAME_BACK]
    answered = [(answer.at, False) for answer in submission.answers if answer.at is not None]
    for at, gone in sorted([*told, *answered]):
        if gone and left is None:
            left = at
        elif not gone and left is not None:
            longest, left = max(longest, min(at, end) - max(left, begin)), None
    return longest if left is None else max(longest, end - max(left, begin))
