"""Explorers of a network: one front end (explorer.js), two back ends (a live kernel, the web page)."""

from imagegen.widgets.attributes import AttributeExplorer
from imagegen.widgets.latents import ImageExplorer, LatentMap

__all__ = ["AttributeExplorer", "ImageExplorer", "LatentMap"]
