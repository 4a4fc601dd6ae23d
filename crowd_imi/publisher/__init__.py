"""Posting a study: its store, its frozen lock and its places on a platform."""

from crowd_imi.publisher.launch import Offer, create_store, launch, offer_of
from crowd_imi.publisher.lock import Lock, load_lock

__all__ = ["Lock", "Offer", "create_store", "launch", "load_lock", "offer_of"]
