"""Explorers of a network: one front end (explorer.js), two back ends (a live kernel, the web page)."""

from imagegen.widgets.attributes import AttributeExplorer
from imagegen.widgets.codes import CodeExplorer
from imagegen.widgets.generators import GeneratorExplorer
from imagegen.widgets.latents import ImageExplorer, LatentMap
from imagegen.widgets.priors import PriorExplorer
from imagegen.widgets.restoration import RestorationExplorer
from imagegen.widgets.ring import RingExplorer
from imagegen.widgets.styles import StyleMixer, StyleSliders, TruncationExplorer

__all__ = [
    "AttributeExplorer", "CodeExplorer", "GeneratorExplorer", "ImageExplorer", "LatentMap", "PriorExplorer",
    "RestorationExplorer", "RingExplorer", "StyleMixer", "StyleSliders", "TruncationExplorer",
]  # fmt: skip
