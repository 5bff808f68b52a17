"""The optimiser of a trial: SGD with momentum, with what Caffe does otherwise as options."""

import torch
from torch import nn

from trainables.config import MomentumForm, TrialConfig


def make_optimiser(model: nn.Module, config: TrialConfig) -> torch.optim.SGD:
    """Return SGD with momentum over a network's parameters.

    Biases have a group of their own where their learning rate or their decay is not the weights'. `set_rate`
    multiplies the learning rate by a group's item `lr_factor`.
    """
    biases = [parameter for name, parameter in model.named_parameters() if name.rpartition(".")[2] == "bias"]
    groups = [{"params": list(model.parameters()), "lr_factor": 1.0}]
    if biases and (config.bias_lr_factor != 1 or not config.bias_weight_decay):
        among = {id(bias) for bias in biases}
        decay = config.weight_decay if config.bias_weight_decay else 0.0
        groups = [
            {"params": [weight for weight in model.parameters() if id(weight) not in among], "lr_factor": 1.0},
            {"params": biases, "lr_factor": config.bias_lr_factor, "weight_decay": decay},
        ]
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay)


def place_rates(optimiser: torch.optim.Optimizer, device: torch.device) -> None:
    """On a GPU, make the optimiser the fused one and put its learning rates there.

    A recorded step reads the rates from where they were recorded, so these tensors are filled and never replaced. To be
    called after the optimiser's state is restored, which brings other ones.
    """
    is_gpu = device.type == "cuda"
    for group in optimiser.param_groups:
        group["fused"] = True if is_gpu else None
        group["lr"] = torch.zeros((), device=device) if is_gpu else 0.0


def set_rate(optimiser: torch.optim.Optimizer, lr: float, momentum_form: MomentumForm) -> None:
    """Set the learning rate of the coming step, in each group times its `lr_factor`."""
    if momentum_form == "caffe":
        _rescale_velocity(optimiser, lr)
    for group in optimiser.param_groups:
        rate = lr * group["lr_factor"]
        group["lr"] = group["lr"].fill_(rate) if isinstance(group["lr"], torch.Tensor) else rate


def _rescale_velocity(optimiser: torch.optim.Optimizer, lr: float) -> None:
    """Make the coming step, at the rate `lr`, one of Caffe's, whose velocity has the rate inside.

    With V = lr v, Caffe's V' = m V + lr' g is v' = m (lr / lr') v + g in torch's form: where the rate has changed since
    the last step, the velocity is multiplied by the old rate over the new one.
    """
    for group in optimiser.param_groups:
        # Kept in the group, hence in checkpoints, as the Python number that it was.
        before = group.get("lr_before", lr)
        group["lr_before"] = lr
        held = [optimiser.state[parameter].get("momentum_buffer") for parameter in group["params"]]
        velocities = [velocity for velocity in held if velocity is not None]
        if before != lr and velocities:
            torch._foreach_mul_(velocities, before / lr)
