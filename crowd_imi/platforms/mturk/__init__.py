"""Mechanical Turk, by boto3."""

from crowd_imi.platforms.mturk.adapter import MturkPlatform
from crowd_imi.platforms.mturk.client import closed_notice
from crowd_imi.platforms.mturk.hits import fee_of
from crowd_imi.platforms.mturk.notifications import Notice, NoticeQueue

__all__ = ["MturkPlatform", "Notice", "NoticeQueue", "closed_notice", "fee_of"]
