"""How weights start. The paper does not say, and it decides which of the deep plain networks train at all."""

import math
from itertools import pairwise

from torch import nn

from trainables.config import Initialisation


def initialise(model: nn.Module, name: Initialisation, std: float = 0.05) -> None:
    """Draw every convolution's and linear layer's weights anew, in place; biases become 0.

    `he`: normal, variance 2 / fan-in (He et al. 2015, arXiv 1502.01852), which keeps the signal's size through ReLUs;
    2 / (fan-in (1 + a^2)) before a leaky ReLU of slope a, as there.
    `xavier-caffe`: uniform, variance 1 / fan-in, what Caffe calls xavier. `glorot`: uniform, variance
    2 / (fan-in + fan-out) (Glorot and Bengio 2010). `normal`: normal, of a given standard deviation.
    `pytorch`: what torch's layers do by themselves, biases included.

    Args:
        model: whose layers are initialised.
        name: of the distribution.
        std: standard deviation of `normal`.

    Raises:
        ValueError: the name is none of these.
    """
    if name == "pytorch":
        return
    for module, after in pairwise((*model.modules(), nn.Identity())):
        if not isinstance(module, nn.Conv2d | nn.Linear):
            continue
        weight = module.weight
        fan_in = weight[0].numel()
        match name:
            case "he":
                slope = after.negative_slope if isinstance(after, nn.LeakyReLU) else 0.0
                nn.init.kaiming_normal_(weight, a=slope, nonlinearity="leaky_relu")
            case "xavier-caffe":
                bound = math.sqrt(3 / fan_in)
                nn.init.uniform_(weight, -bound, bound)
            case "glorot":
                nn.init.xavier_uniform_(weight)
            case "normal":
                nn.init.normal_(weight, std=std)
            case _:
                raise ValueError(f"initialisation must be a known name, got {name!r}.")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
