"""Did the participant understand the task?"""

from crowd_imi.criteria.submission import Check, Submission


def practice_blocks(submission: Submission, *, at_most: int) -> Check:
    """How many times the practice block was done until every trial in it was right.

    Args:
        submission: the participant's work.
        at_most: most blocks that pass; inclusive. Who never got one right fails, however many there were.

    Source:
        Zimmermann, Klein & Brendel 2023, arXiv:2307.05471: 3.
    """
    return Check(
        criterion="practice_blocks",
        passed=submission.practice_passed and submission.practice_blocks <= at_most,
        measured=submission.practice_blocks,
        limit=f"all right within {at_most} practice blocks",
    )
