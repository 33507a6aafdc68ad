"""Layers that look their neurons up, and what goes between them."""

from hashfold.nn.active import ActiveValues

__all__ = ["ActiveValues"]
