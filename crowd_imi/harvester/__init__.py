"""Collecting, judging, paying and replacing submissions; where a study stands."""

from crowd_imi.harvester.records import (
    ArmAttrition,
    ClosingRemark,
    ClosingRemarks,
    Difference,
    Harvest,
    Status,
    Surplus,
    UnitStatus,
)
from crowd_imi.harvester.rounds import harvest
from crowd_imi.harvester.standing import closing_remarks, status
from crowd_imi.stock import ArmStatus

__all__ = [
    "ArmAttrition",
    "ArmStatus",
    "ClosingRemark",
    "ClosingRemarks",
    "Difference",
    "Harvest",
    "Status",
    "Surplus",
    "UnitStatus",
    "closing_remarks",
    "harvest",
    "status",
]
