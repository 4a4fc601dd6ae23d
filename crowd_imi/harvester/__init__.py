"""Collecting, judging, paying and replacing submissions; where a study stands."""

from crowd_imi.harvester.records import ArmStatus, Difference, Harvest, Status
from crowd_imi.harvester.rounds import harvest
from crowd_imi.harvester.standing import status

__all__ = ["ArmStatus", "Difference", "Harvest", "Status", "harvest", "status"]
