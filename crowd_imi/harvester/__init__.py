"""Collecting, judging, paying and replacing submissions; where a study stands."""

from crowd_imi.harvester.harvest import harvest
from crowd_imi.harvester.records import ArmStatus, Difference, Harvest, Status
from crowd_imi.harvester.status import status

__all__ = ["ArmStatus", "Difference", "Harvest", "Status", "harvest", "status"]
