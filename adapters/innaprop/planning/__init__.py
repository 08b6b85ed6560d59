"""Planning a run: what INNAprop's hyperparameters will do, compared with AdamW."""

from innaprop.planning.plan import Plan, plan

__all__ = ["Plan", "plan"]
