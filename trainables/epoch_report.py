"""What one epoch of a trial did."""

from dataclasses import asdict
from typing import Annotated, Any, Literal, final

from pydantic import AllowInfNan

from trainables.common.validation import configuration

State = Literal["running", "completed", "diverged"]


@final
@configuration
class EpochReport:
    """What one epoch did. Errors are fractions in [0, 1]."""

    epoch: int
    """Counted from 1."""
    lr: float
    """Learning rate of the epoch's last step."""
    train_loss: Annotated[float, AllowInfNan(True)]
    """Mean cross-entropy over the training images, with dropout on, as the weights stood at each step; in nats."""
    train_error: float
    """Share of training images misclassified, measured like `train_loss`."""
    val_error: float | None
    """Share of held-out images misclassified, dropout off, after the epoch; None where none are held out, or where the
    errors were not measured after this epoch."""
    test_error: float | None
    """Share of test images misclassified, likewise; None where images are held out, or after such an epoch."""
    test_top5_error: float | None
    """Share of test images whose class is not among the five likeliest; None with five classes or fewer."""
    averaged_error: float | None
    """Like `error`, of weights averaged over about an epoch; None but after the epochs `averaged_at`."""
    dead_classes: int | None = None
    """Classes whose logit is the same for every image, as where the ReLU of the class layer has died; None where there
    was no evaluation."""
    error: float
    """What the search minimises: `val_error` where there is one, else `test_error`, else, since no choice hangs on such
    an epoch, `train_error`."""
    train_images: int
    """Images counted in `train_error`, over all workers."""
    val_images: int
    """Images counted in `val_error`, over all workers."""
    test_images: int
    """Images counted in `test_error`, over all workers."""
    epoch_s: float
    """Seconds of training and evaluation."""
    train_s: float
    """Seconds of training alone."""
    state: State
    reason: str = ""
    """Why the state is `diverged`."""
    num_parameters: int
    precision: str
    memory_format: str
    compiled: bool
    """Whether the network was compiled for its training steps."""
    device: str
    node: str
    """Name of the machine that the first worker ran on."""

    @property
    def arithmetic(self) -> dict[str, str]:
        """Return the settings of a trial's configuration that `auto` stood for."""
        compiled = "yes" if self.compiled else "no"
        return {"precision": self.precision, "memory_format": self.memory_format, "compiled": compiled}

    def to_dict(self) -> dict[str, Any]:
        """Return plain values by name."""
        return asdict(self)
