"""Did the participant take the time that it takes, and not far more? All by the server's clock."""

from crowd_imi.criteria.submission import Check, Submission


def total_time(submission: Submission, *, at_least: float, at_most: float) -> Check:
    """Seconds from consent to submission.

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
    return Check(
        criterion="total_time",
        passed=None if seconds is None else at_least <= seconds <= at_most,
        measured=seconds,
        limit=f"{at_least:g} to {at_most:g} s from consent to submission",
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


def _seconds(begin: int | None, end: int | None) -> float | None:
    return None if begin is None or end is None else (end - begin) / 1000
