"""MIS per unit and model, and the report."""

from crowd_imi.scoring.mis import Group, Scores, score

__all__ = ["Group", "Scores", "score"]
