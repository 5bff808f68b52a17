"""Pooling as a p-norm over a window of each feature map, the paper's equation 1, p fixed or learned.

(sum |f|^p)^(1/p) over the k values of a window: p -> infinity is max-pooling, and p = 1 is average pooling once it is
divided by k. Here the mean stands in the sum's place, so that every p is an average of its kind: p = 1 is average
pooling as it stands, the limit is max-pooling all the same, and a change of p does not change the signal's size by
k^(1/p) too. Source: arXiv 1412.6806v3, section 2.
"""

import math

import torch
from torch import nn
from torch.nn import functional

FAST_UP_TO = 4.0
"""For a fixed p above 1 and up to this a whole map can be scaled by its largest value, which is several times as fast
as scaling each window: what vanishes in single precision is then below 1e-9 of that value."""

LEARNED_START = 3.0
"""Where a learned p starts: between the average and the maximum. The paper learns none."""


class PNormPool2d(nn.Module):
    """Pools |f| by (mean |f|^p)^(1/p) over square windows, sizes rounded up as Caffe does.

    `(N, C, H, W)` to `(N, C, H', W')` with H' = ceil((H - kernel) / stride) + 1. A window that the border cuts off
    counts the values that it has. A learned p is stored as `raw`, on which weight decay acts: left alone it draws p
    towards 1 + ln 2.
    """

    def __init__(self, kernel: int, stride: int, p: float | None) -> None:
        """Begin with a fixed p, infinity allowed, or with None for one that is learned, always above 1.

        Raises:
            ValueError: p is not above 0.
        """
        super().__init__()
        if p is not None and not p > 0:
            raise ValueError(f"p must be above 0, or infinity for the maximum, got {p!r}.")
        self.kernel, self.stride = kernel, stride
        # p = 1 + softplus(raw): a norm, whatever a step of the optimiser does.
        start = math.log(math.expm1(LEARNED_START - 1))
        self.raw = nn.Parameter(torch.tensor(start)) if p is None else None
        self._p = p

    @property
    def p(self) -> torch.Tensor | float:
        """The norm's exponent as it stands."""
        if self.raw is not None:
            return 1 + functional.softplus(self.raw)
        assert self._p is not None, "fixed where it is not learned"
        return self._p

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the pooled |features|."""
        size = features.abs()
        if self._p == math.inf:
            return functional.max_pool2d(size, self.kernel, self.stride, ceil_mode=True)
        if self._p == 1:
            return functional.avg_pool2d(size, self.kernel, self.stride, ceil_mode=True, count_include_pad=False)
        size = size if size.dtype == torch.float64 else size.float()
        fast = self._p is not None and 1 < self._p <= FAST_UP_TO
        return (self._relative_to_maps(size) if fast else self._relative_to_windows(size)).to(features.dtype)

    def _relative_to_maps(self, size: torch.Tensor) -> torch.Tensor:
        # Relative to each map's maximum, so that no power overflows; the maximum cancels and needs no gradient.
        largest = size.detach().amax((2, 3), keepdim=True).clamp_min(torch.finfo(size.dtype).tiny)
        powers = (size / largest).pow(self.p)
        mean = functional.avg_pool2d(powers, self.kernel, self.stride, ceil_mode=True, count_include_pad=False)
        is_empty = mean <= 0
        return torch.where(is_empty, 0.0, torch.where(is_empty, 1.0, mean).pow(1 / self.p) * largest)

    def _relative_to_windows(self, size: torch.Tensor) -> torch.Tensor:
        # Relative to each window's maximum: no power vanishes either, whatever p is.
        largest = functional.max_pool2d(size.detach(), self.kernel, self.stride, ceil_mode=True)
        windows, held = self._windows(size, largest.shape[2:])
        is_zero = windows <= 0
        relative = windows / largest.clamp_min(torch.finfo(largest.dtype).tiny).flatten(2).unsqueeze(2)
        # A zero adds nothing and has no slope; for p < 1 its own slope would be infinite.
        powers = torch.where(is_zero, 0.0, torch.where(is_zero, 1.0, relative).pow(self.p))
        mean = powers.sum(2) / held
        is_empty = is_zero.all(2)
        norms = torch.where(is_empty, 1.0, mean).pow(1 / self.p)
        return torch.where(is_empty, 0.0, norms * largest.flatten(2)).view_as(largest)

    def extra_repr(self) -> str:
        """Return what `print` shows of the layer."""
        return f"kernel={self.kernel}, stride={self.stride}, p={'learned' if self.raw is not None else self._p}"

    def _windows(self, size: torch.Tensor, out: torch.Size) -> tuple[torch.Tensor, torch.Tensor]:
        """Return each window's values, zeros beyond the border, `(N, C, k, L)`, and how many it holds, `(L)`."""
        height, width = size.shape[2:]
        missing_rows = (out[0] - 1) * self.stride + self.kernel - height
        missing_columns = (out[1] - 1) * self.stride + self.kernel - width
        border = (0, max(0, missing_columns), 0, max(0, missing_rows))
        padded = functional.pad(size, border)
        inside = functional.pad(size.new_ones(1, 1, height, width), border)
        held = functional.unfold(inside, self.kernel, stride=self.stride).sum(1).squeeze(0)
        windows = functional.unfold(padded, self.kernel, stride=self.stride)
        return windows.view(len(size), size.shape[1], self.kernel**2, -1), held
