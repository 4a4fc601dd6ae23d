"""Sprites in S3, or in any storage that speaks its protocol: uploaded, opened to browsers, checked, and removed again."""

from crowd_imi.publisher.hosting.access import public_problem
from crowd_imi.publisher.hosting.host import Change, host, host_more, unhost
from crowd_imi.publisher.hosting.objects import WORKERS, File, upload

__all__ = ["WORKERS", "Change", "File", "host", "host_more", "public_problem", "unhost", "upload"]
