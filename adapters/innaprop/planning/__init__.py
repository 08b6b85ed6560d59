"""An adviser before a run: what INNAprop's numbers will do, beside AdamW's."""

from innaprop.planning.plan import Plan, plan

__all__ = ["Plan", "plan"]
