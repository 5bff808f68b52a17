"""The configuration of one trial: frozen, keyword-only, checked when it is made. No torch here."""

from collections.abc import Mapping
from dataclasses import asdict, field, replace
from typing import Annotated, Any, Literal, Self

from annotated_types import Ge, Gt, Le, Lt

from trainables.common.validation import LOG, Scalar, configuration, from_plain, quote

Initialisation = Literal["he", "xavier-caffe", "glorot", "normal", "pytorch"]
MomentumForm = Literal["pytorch", "caffe"]
Augmentation = Literal["none", "flip-shift", "crop-flip", "heavy"]
Preprocessing = Literal["gcn-zca", "standardise"]
Precision = Literal["auto", "float32", "bfloat16"]
MemoryFormat = Literal["auto", "contiguous", "channels_last"]
Compiled = Literal["auto", "yes", "no"]

PAPER_DROPS = (200 / 350, 250 / 350, 300 / 350)
"""Where the paper divides the learning rate by 10: after epochs 200, 250 and 300 of 350."""

MAX_WIDTH = 64
"""Twelve thousand channels in the widest layer: beyond any machine, and still a network that can be described."""

MAX_SCALE = 16
"""Times an image's size that `heavy` may make of it: more shows a patch of two pixels."""

MAX_CANVAS = 4096
"""Px: beyond any network here, and a guard against a slip of the finger."""

SEED_LIMIT = 2**32
"""Seeds are below this, as numpy's and Optuna's generators want them."""


@configuration
class ArchitectureConfig:
    """What may differ between two networks of the same variant; the paper leaves some of it open."""

    width: Annotated[float, Gt(0), Le(MAX_WIDTH)] = 1.0
    """Factor on the channels of every layer but the class layer; 1 is the paper's network."""

    input_dropout: Annotated[float, Ge(0), Lt(1)] = 0.2
    """Dropout probability on the input image; the paper's is 0.2."""

    dropout: Annotated[float, Ge(0), Lt(1)] = 0.5
    """Dropout probability after each downsampling layer; the paper's is 0.5."""

    strided_dropout: bool = True
    """Dropout after the strided layer of the Strided-CNN networks too; the paper does not say."""

    class_relu: bool = True
    """ReLU on the class layer, as the paper's table has it; many reproductions leave it out."""

    head_padding: Annotated[int, Ge(0), Le(1)] = 0
    """Padding of the head's 3x3 convolution: 0 gives the paper's 6x6 maps, 1 gives 8x8."""

    leaky_slope: Annotated[float, Ge(0), Lt(1)] = 1 / 3
    """Slope below zero of `large-all-cnn`'s ReLUs; the paper gives none, and 1/3 is the very leaky one of the spatially
    sparse CNN (Graham 2014) beside which the paper sets its result, as far as it is remembered."""

    initialisation: Initialisation = "he"
    """How weights start; the paper does not say. Biases start at zero, except with `pytorch`."""

    initialisation_std: Annotated[float, Gt(0), Le(10), LOG] = 0.05
    """Standard deviation of the weights with the initialisation `normal`; 0.05 stands in the Caffe configuration that
    Network in Network's authors published."""


@configuration
class HeavyConfig:
    """How far the augmentation `heavy` goes. The paper gives no strengths: all of these are this project's choice.

    Each image draws its own values, evenly between the bounds.

    Raises:
        ValueError: a field does not hold what its description says.
    """

    rotation: Annotated[float, Ge(0), Le(180)] = 30.0
    """Largest rotation about the middle, in degrees, either way."""

    min_scale: Annotated[float, Gt(0), Le(MAX_SCALE)] = 0.7
    """Smallest factor on an image's size."""

    max_scale: Annotated[float, Gt(0), Le(MAX_SCALE)] = 1.5
    """Largest factor on an image's size."""

    translation: Annotated[float, Ge(0), Le(1)] = 0.1
    """Largest shift along each axis, either way, as a fraction of the side of the image with its canvas."""

    brightness: Annotated[float, Ge(0), Le(1)] = 0.2
    """Largest value that is added to all pixels in [0, 1], either way."""

    contrast: Annotated[float, Ge(0), Le(1)] = 0.2
    """Largest change of the factor 1 on all pixels in [0, 1], either way."""

    saturation: Annotated[float, Ge(0), Le(1)] = 0.2
    """Largest change of the factor 1 on the saturation, either way."""

    hue: Annotated[float, Ge(0), Le(0.5)] = 0.05
    """Largest change of the hue, either way, as a fraction of the colour circle."""

    def __post_init__(self) -> None:
        _check("max_scale", self.max_scale, self.min_scale <= self.max_scale, f"at least min_scale, {self.min_scale:g}")


@configuration
class TrialConfig:
    """Everything that decides what one trial computes: two trials of equal configuration give equal numbers.

    Raises:
        ValueError: a field does not hold what its description says.
    """

    dataset: str
    """Name of a registered data set."""

    data: str | None = None
    """Folder or URI that holds the data set; None downloads it, or generates it for `shapes`."""

    augmentation: Augmentation = "none"
    """`flip-shift`: horizontal flip and a shift of up to 5 px per axis, as in the paper's augmented runs;
    `crop-flip`: a random square of a streamed image, mirrored with probability 1/2; `heavy`: rotated, scaled, shifted
    and colour-shifted, as far as the field `heavy` says, with `standardise` only."""

    heavy: HeavyConfig = field(default_factory=HeavyConfig)
    """Strengths of the augmentation `heavy`."""

    canvas: Annotated[int, Ge(1), Le(MAX_CANVAS)] | None = None
    """Side of the square, in px, that images are placed into the middle of, over zeros, in training and evaluation;
    None leaves them as they are. `flip-shift` acts before, `heavy` moves images about within it."""

    preprocessing: Preprocessing = "gcn-zca"
    """`gcn-zca`: global contrast normalisation and ZCA whitening as in the paper; `standardise`: per channel."""

    train_size: Annotated[int, Ge(1)] | None = None
    """Number of training images, drawn once for all trials; None takes all."""

    held_out: Annotated[float, Ge(0), Le(0.5)] = 0.0
    """Share of the training images, of each class alike, on which errors are measured instead of on the test images,
    which are then not looked at; 0 trains on all."""

    evaluate_every: Annotated[int, Ge(1)] | None = 1
    """Epochs from one measurement of the errors to the next; those of the last epoch are measured always, and with None
    these alone."""

    averaged_at: tuple[int, ...] = ()
    """Epochs after which the error of weights averaged over about an epoch is measured too. It changes nothing else."""

    variant: str
    """Name of a registered architecture variant."""

    architecture: ArchitectureConfig = field(default_factory=ArchitectureConfig)
    """Options of the paper's networks, and of others that have none of their own."""

    options: Mapping[str, Scalar] = field(default_factory=dict)
    """Values of the options that the variant registered as its own, by name; those left out have their defaults."""

    lr: Annotated[float, Gt(0), LOG]
    """Initial learning rate, the paper's gamma."""

    momentum: Annotated[float, Ge(0), Lt(1)] = 0.9
    """Momentum of SGD, not Nesterov's."""

    momentum_form: MomentumForm = "pytorch"
    """Where the learning rate stands: `pytorch` scales the velocity by it (v = m v + g, w -= lr v), `caffe`, with which
    the paper's networks were trained, has it inside (v = m v + lr g, w -= v). They differ after a change of the rate
    only: with `caffe` the old rate's velocity dies away over some steps."""

    weight_decay: Annotated[float, Ge(0), LOG] = 0.001
    """Coefficient of w in the gradient, as torch.optim.SGD means it; the paper's lambda."""

    bias_lr_factor: Annotated[float, Gt(0)] = 1.0
    """Factor on the learning rate of biases; many of Caffe's published configurations have 2."""

    bias_weight_decay: bool = True
    """Whether biases decay like weights; in many of Caffe's published configurations they do not."""

    label_smoothing: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Share of each training label that is spread evenly over all classes; the training loss has it too, errors do
    not."""

    max_grad_norm: Annotated[float, Gt(0), LOG] | None = None
    """Largest norm of the gradient over all parameters together, to which a longer one is scaled down; None scales
    none."""

    batch_size: Annotated[int, Ge(1), Le(10**6)] = 128
    """Images per step over all workers; the paper does not say, reproductions use 128 or 256."""

    epochs: Annotated[int, Ge(1), Le(10**6)] = 350
    """Passes over the training images, or the parts that `iterations` are cut into: a report follows each."""

    iterations: Annotated[int, Ge(1)] | None = None
    """Steps of training over all epochs, for streamed data sets; None makes an epoch one pass over the images."""

    drops: tuple[float, ...] = PAPER_DROPS
    """Where the learning rate is multiplied by `drop_factor`, as fractions of `epochs`."""

    drop_factor: Annotated[float, Gt(0)] = 0.1
    """Factor on the learning rate at each drop."""

    warmup_epochs: Annotated[float, Ge(0)] = 0.0
    """Epochs over which the learning rate rises linearly from 0; the paper has none."""

    seed: Annotated[int, Ge(0), Lt(SEED_LIMIT)] = 0
    """Seeds initialisation, order of the images, augmentation and dropout."""

    precision: Precision = "auto"
    """Arithmetic of the forward pass; `auto` takes what was measured faster on this machine."""

    memory_format: MemoryFormat = "auto"
    """Layout of images and weights; `auto` takes what was measured faster on this machine."""

    compiled: Compiled = "auto"
    """Whether torch.compile fuses the kernels of the network's training steps; never with several workers. `auto`
    compiles on a GPU whose machine has a C compiler, from `trainables.hardware.COMPILED_FROM_STEPS` steps on, a network
    of torch's and this project's modules; `yes` any network, or fails the trial. It changes roundings."""

    plugins: tuple[str, ...] = ()
    """Python files that register the user's own variants, data sets or studies."""

    def __post_init__(self) -> None:
        if self.iterations is not None:
            is_whole = self.iterations % self.epochs == 0
            _check("iterations", self.iterations, is_whole, f"a multiple of epochs, {self.epochs}")
        _check("warmup_epochs", self.warmup_epochs, self.warmup_epochs <= self.epochs, f"at most epochs, {self.epochs}")
        within = all(1 <= epoch <= self.epochs and self.is_evaluated(epoch) for epoch in self.averaged_at)
        _check("averaged_at", self.averaged_at, within, f"epochs with an error, from 1 to {self.epochs}")
        in_order = all(0 < drop <= 1 for drop in self.drops) and list(self.drops) == sorted(self.drops)
        _check("drops", self.drops, in_order, "rising fractions of the epochs, above 0 and at most 1")
        if self.augmentation == "heavy" and self.preprocessing != "standardise":
            raise ValueError(
                f"preprocessing must be standardise for the augmentation heavy, whose colour shifts act on pixels, "
                f"got {self.preprocessing!r}; add --set preprocessing=standardise."
            )

    @property
    def cell(self) -> str:
        """Data set, augmentation and variant: trials compete within a cell only."""
        return f"{self.dataset}/{self.augmentation}/{self.variant}"

    @property
    def drop_epochs(self) -> tuple[int, ...]:
        """Epochs, counted from 1, after which the learning rate falls; twice the same one where there are few."""
        return tuple(round(drop * self.epochs) for drop in self.drops)

    def is_evaluated(self, epoch: int) -> bool:
        """Return whether the errors are measured after an epoch, counted from 1."""
        return epoch == self.epochs or (self.evaluate_every is not None and epoch % self.evaluate_every == 0)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold; `from_dict` reads them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the configuration that `to_dict` wrote, also after it went through JSON.

        Raises:
            ValueError: a name is unknown or missing, or a value does not hold.
        """
        return from_plain(cls, values, "A trial's configuration")


def learning_rate(config: TrialConfig, progress: float) -> float:
    """Return the learning rate at `progress` epochs since the start, 1.5 being the middle of the second epoch.

    The loop asks at the middle of each step, so that no step falls on a drop. Warm-up scales it
    linearly; each drop that lies behind multiplies it by `drop_factor`.
    """
    drops = sum(progress >= epoch for epoch in config.drop_epochs)
    warmup = min(1.0, progress / config.warmup_epochs) if config.warmup_epochs else 1.0
    return config.lr * config.drop_factor**drops * warmup


def is_prefix_of(shorter: TrialConfig, longer: TrialConfig) -> bool:
    """Return whether `shorter` trains the first epochs of `longer`, bit for bit: only `epochs` may differ.

    Drops are shares of the epochs, so two trials of different length mostly part at the first drop of either.
    """
    # A drop after the last epoch changes nothing.
    falls = [[epoch for epoch in config.drop_epochs if epoch < shorter.epochs] for config in (shorter, longer)]
    only_longer = replace(shorter, epochs=longer.epochs) == longer and shorter.epochs <= longer.epochs
    # Steps that are cut into epochs make other ones of them.
    return only_longer and falls[0] == falls[1] and (shorter.iterations is None or shorter == longer)


def _check(name: str, value: object, holds: bool, must: str) -> None:
    if not holds:
        raise ValueError(f"{name} must be {must}, got {quote(value)}.")
