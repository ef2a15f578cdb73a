"""Autoregressive priors over grids of codes: a product over positions, each given the codes before it.

`grids` holds the prior itself: labels, context, log-probability and sampling, around one of two networks. `pixelcnn` is
the one with masked convolutions, `transformer` the one with causal attention, `drawing` picks a code from its logits.
All names are importable from here.
"""

from imagegen.prior.drawing import draw, top_p_filter
from imagegen.prior.grids import WITHHELD, Prior, PriorConfig
from imagegen.prior.pixelcnn import GatedLayer, MaskedConv2d, PixelCNN, gate
from imagegen.prior.transformer import CausalSelfAttention, KeyValueCache, Transformer, TransformerLayer

__all__ = [
    "WITHHELD",
    "CausalSelfAttention",
    "GatedLayer",
    "KeyValueCache",
    "MaskedConv2d",
    "PixelCNN",
    "Prior",
    "PriorConfig",
    "Transformer",
    "TransformerLayer",
    "draw",
    "gate",
    "top_p_filter",
]
