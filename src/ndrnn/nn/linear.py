"""The layer on the linear scan."""

from __future__ import annotations

from math import log
from typing import Literal, Unpack

import torch

from ..cells import LinearCell, Params
from .layers import Options, ScanLayer

NEAREST, FURTHEST = 2.0, 256.0
"""How far the memories of a fresh layer reach, in points: spread evenly on a logarithmic scale over the units."""


class MDLinearRNN(ScanLayer):
    """A recurrence that is linear in its memory, with gates of the input alone: no product within the recurrence.

    c = i g + f_1 c_1 + ... + f_n c_n and h = o c, with (i, f_1, ..., f_n) = softmax of their logits, g a tanh and o
    logistic, all of W x + b. The shares sum to 1: c stays within 1 on a lattice of any size, and a memory can be
    carried undamped along a line. About 2.4 times as fast as a gated layer of as many units for n = 2, and as fast as one of
    as many weights.

    Arguments and shapes as in :class:`ScanLayer`, without ``weight_hh``; gate order i, f1 ... fn, g, o. A state holds
    h and c as for any layer with a memory, of which only c enters. And ``normalize``: ``"softmax"``, or ``"even"``:
    f_k = sigma(a_fk) / n and i = sigma(a_i) (1 - sum of f_k). With even shares gradients are bounded like the
    memory, but along a straight line a memory fades like the number of points to the power -1/2 at best.

    The biases of f start so that what is kept, the sum of f, is 1 - 1/r, with r from 2 to 256 points on a logarithmic
    scale over the units.
    """

    cell: LinearCell

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        ndim: int = 2,
        *,
        normalize: Literal["softmax", "even"] = "softmax",
        **options: Unpack[Options],
    ) -> None:
        super().__init__(LinearCell(normalize), input_size, hidden_size, ndim, **options)
        self.register_parameter("weight_hh", None)

    @property
    def params(self) -> Params:
        """The parameters in the form that the scan takes; the recurrent weights have no rows."""
        shape = (len(self.directions), self.ndim, 0, self.hidden_size)
        return Params(self.weight_ih, self.weight_ih.new_empty(shape), self.bias, None)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        super().reset_parameters()
        if self.bias is None:
            return
        bias = self.bias.detach().clone()
        steps = torch.linspace(0, 1, self.hidden_size, device=bias.device, dtype=bias.dtype)
        reach = NEAREST * (steps * log(FURTHEST / NEAREST)).exp()
        # the logit at which the sum of the shares that are kept is 1 - 1 / reach
        kept = torch.log(reach - 1)
        if self.cell.normalize == "softmax":
            kept = kept - log(self.ndim)
        bias.view(len(self.directions), -1, self.hidden_size)[:, : 1 + self.ndim] = 0
        bias.view(len(self.directions), -1, self.hidden_size)[:, 1 : 1 + self.ndim] = kept
        self.bias.copy_(bias)
