"""What happened: tables, transactions and queries. Everything else asks here."""

from crowd_imi.store.clock import Clock, SimulatedClock, SystemClock
from crowd_imi.store.engine import Store, StoreKind

__all__ = ["Clock", "SimulatedClock", "Store", "StoreKind", "SystemClock"]
