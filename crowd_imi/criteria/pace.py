"""Did the participant take the time that it takes, and not far more? By the server's clock, single trials by the browser's."""

from crowd_imi.criteria.submission import Check, Submission

VERDICT_MS = 350
"""Everybody waits so long from a click to the verdict; what storing takes beyond it is delay."""


def total_time(submission: Submission, *, at_least: float, at_most: float) -> Check:
    """Seconds from consent to submission, without the delays of storing answers.

    Args:
        submission: the participant's work.
        at_least: fewest seconds that pass; inclusive.
        at_most: most seconds that pass; inclusive.

    Returns:
        Nothing measured when it was never submitted.

    Source:
        Zimmermann, Klein & Brendel 2023, arXiv:2307.05471: 135 to 2,500 s.
    """
    seconds = _seconds(submission.consented_at, submission.submitted_at)
    if seconds is not None:
        seconds -= delay_ms(submission) / 1000
    return Check(
        criterion="total_time",
        passed=None if seconds is None else at_least <= seconds <= at_most,
        measured=seconds,
        limit=f"{at_least:g} to {at_most:g} s from consent to submission, without delays of storing",
        clock="server",
    )


def instruction_time(submission: Submission, *, at_least: float) -> Check:
    """Seconds from consent to the end of the instructions.

    Args:
        submission: the participant's work.
        at_least: fewest seconds that pass; inclusive.

    Returns:
        Nothing measured when the instructions weren't finished.

    Source:
        Zimmermann, Klein & Brendel 2023, arXiv:2307.05471: 15 s.
    """
    seconds = _seconds(submission.consented_at, submission.instructed_at)
    return Check(
        criterion="instruction_time",
        passed=None if seconds is None else seconds >= at_least,
        measured=seconds,
        limit=f"at least {at_least:g} s on the instructions",
        clock="server",
    )


def reaction_times(submission: Submission, *, at_least: float, but: int) -> Check:
    """How many trials were answered faster than anybody can look at the pictures, by the browser's clock.

    Args:
        submission: the participant's work.
        at_least: milliseconds from the painted frame to the click that aren't too fast; inclusive.
        but: most trials that may be faster; inclusive.

    Returns:
        Nothing measured when there is no answer.
    """
    times = [answer.rt_ms for answer in submission.answers if answer.rt_ms is not None]
    fast = sum(time < at_least for time in times) if times else None
    return Check(
        criterion="reaction_times",
        passed=None if fast is None else fast <= but,
        measured=fast,
        limit=f"at most {but} trials answered in less than {at_least:g} ms",
        clock="browser",
    )


def delay_ms(submission: Submission) -> float:
    """How long the page waited for answers to be stored, beyond the wait that everybody has.

    The browser says how long it was, and the server's clock how long it can have been: an answer was being stored after
    the one before it was there and before the one after it came, and never two at once. So the delays together are never
    longer than the trials.

    Args:
        submission: the participant's work.

    Returns:
        Milliseconds; 0 for the last answer's delay, which no later answer tells, and where times aren't known.
    """
    stored = (submission.practised_at, *(answer.at for answer in submission.answers))
    total, free_from = 0.0, 0.0
    for before, after, following in zip(stored, stored[2:], submission.answers[1:], strict=False):
        if before is None or after is None or following.saving_ms is None:
            continue
        begin = max(free_from, before)
        delay = min(following.saving_ms - VERDICT_MS, after - begin)
        if delay > 0:
            total, free_from = total + delay, begin + delay
    return total


def _seconds(begin: int | None, end: int | None) -> float | None:
    return None if begin is None or end is None else (end - begin) / 1000
