"""Metrics for Prometheus: what was counted from events, and `statistics()` of the rest, when scraped."""

from .exposition import CONTENT_TYPE, expose
from .snapshot import Looked, families, look

__all__ = ["CONTENT_TYPE", "Looked", "expose", "families", "look"]
