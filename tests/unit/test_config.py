import json
import math
import re
import subprocess
import sys
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from trainables import ArchitectureConfig, HeavyConfig, TrialConfig
from trainables.config import learning_rate


def trial(**values: Any) -> TrialConfig:
    return TrialConfig(**{"dataset": "shapes", "variant": "all-cnn-c", "lr": 0.05} | values)


def test_the_defaults_are_the_paper_s() -> None:
    config = trial()
    assert (config.momentum, config.weight_decay, config.epochs, config.batch_size) == (0.9, 0.001, 350, 128)
    assert (config.drop_factor, config.warmup_epochs, config.drop_epochs) == (0.1, 0.0, (200, 250, 300))
    assert (config.augmentation, config.preprocessing) == ("none", "gcn-zca")
    network = config.architecture
    assert (network.width, network.input_dropout, network.dropout) == (1.0, 0.2, 0.5)
    assert (network.class_relu, network.strided_dropout, network.head_padding) == (True, True, 0)


@pytest.mark.parametrize(
    ("name", "value", "must"),
    [
        ("width", 0.0, "a number above 0 and at most 64"),
        ("width", math.nan, "a number above 0 and at most 64"),
        ("width", 64.1, "a number above 0 and at most 64"),
        ("input_dropout", 1.0, "a number at least 0 and below 1"),
        ("input_dropout", -0.1, "a number at least 0 and below 1"),
        ("dropout", 1.0, "a number at least 0 and below 1"),
        ("dropout", math.nan, "a number at least 0 and below 1"),
        ("leaky_slope", -0.1, "a number at least 0 and below 1"),
        ("leaky_slope", 1.0, "a number at least 0 and below 1"),
        ("head_padding", 2, "a whole number at least 0 and at most 1"),
        ("initialisation", "He", "one of he, xavier-caffe, glorot, normal, pytorch"),
        ("initialisation_std", 0.0, "a number above 0 and at most 10"),
        ("initialisation_std", math.nan, "a number above 0 and at most 10"),
    ],
)
def test_an_architecture_refuses(name: str, value: Any, must: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(f'{name} must be {must}, got {value!r}.')}$"):
        ArchitectureConfig(**{name: value})


@pytest.mark.parametrize(
    ("name", "value", "must"),
    [
        ("rotation", -1.0, "a number at least 0 and at most 180"),
        ("rotation", math.nan, "a number at least 0 and at most 180"),
        ("min_scale", 0.0, "a number above 0 and at most 16"),
        ("min_scale", math.nan, "a number above 0 and at most 16"),
        ("max_scale", 0.6, "at least min_scale, 0.7"),
        ("max_scale", 17.0, "a number above 0 and at most 16"),
        ("translation", 1.1, "a number at least 0 and at most 1"),
        ("brightness", -0.1, "a number at least 0 and at most 1"),
        ("contrast", 2.0, "a number at least 0 and at most 1"),
        ("saturation", math.inf, "a number at least 0 and at most 1"),
        ("hue", 0.6, "a number at least 0 and at most 0.5"),
    ],
)
def test_the_strengths_of_the_augmentation_heavy_refuse(name: str, value: Any, must: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(f'{name} must be {must}, got {value!r}.')}$"):
        HeavyConfig(**{name: value})


def test_heavy_augmentation_of_whitened_images_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^preprocessing must be standardise for the augmentation heavy") as caught:
        trial(augmentation="heavy")
    assert str(caught.value).endswith("act on pixels, got 'gcn-zca'; add --set preprocessing=standardise.")
    assert trial(augmentation="heavy", preprocessing="standardise").cell == "shapes/heavy/all-cnn-c"


@pytest.mark.parametrize(
    ("name", "value", "must"),
    [
        ("lr", 0.0, "a number above 0"),
        ("lr", -0.1, "a number above 0"),
        ("lr", math.nan, "a number above 0"),
        ("lr", math.inf, "a number above 0"),
        ("drop_factor", 0.0, "a number above 0"),
        ("weight_decay", -1e-9, "a number at least 0"),
        ("weight_decay", math.inf, "a number at least 0"),
        ("warmup_epochs", -1.0, "a number at least 0"),
        ("warmup_epochs", math.nan, "a number at least 0"),
        ("momentum", 1.0, "a number at least 0 and below 1"),
        ("momentum", -0.1, "a number at least 0 and below 1"),
        ("batch_size", 0, "a whole number at least 1 and at most 1000000"),
        ("epochs", 0, "a whole number at least 1 and at most 1000000"),
        ("epochs", 10**6 + 1, "a whole number at least 1 and at most 1000000"),
        ("warmup_epochs", 351.0, "at most epochs, 350"),
        ("train_size", 0, "a whole number at least 1 or none"),
        ("seed", -1, "a whole number at least 0 and below 4294967296"),
        ("seed", 2**32, "a whole number at least 0 and below 4294967296"),
        ("drops", (0.0, 0.5), "rising fractions of the epochs, above 0 and at most 1"),
        ("drops", (0.5, 1.1), "rising fractions of the epochs, above 0 and at most 1"),
        ("drops", (0.5, 0.4), "rising fractions of the epochs, above 0 and at most 1"),
        ("augmentation", "flip", "one of none, flip-shift, crop-flip, heavy"),
        ("canvas", 0, "a whole number at least 1 and at most 4096 or none"),
        ("canvas", 4097, "a whole number at least 1 and at most 4096 or none"),
        ("preprocessing", "zca", "one of gcn-zca, standardise"),
        ("precision", "float16", "one of auto, float32, bfloat16"),
        ("memory_format", "nhwc", "one of auto, contiguous, channels_last"),
        ("compiled", "always", "one of auto, yes, no"),
        ("momentum_form", "nesterov", "one of pytorch, caffe"),
        ("bias_lr_factor", 0.0, "a number above 0"),
        ("bias_lr_factor", math.inf, "a number above 0"),
        ("max_grad_norm", 0.0, "a number above 0 or none"),
        ("max_grad_norm", math.nan, "a number above 0 or none"),
        ("evaluate_every", 0, "a whole number at least 1 or none"),
    ],
)
def test_a_trial_refuses(name: str, value: Any, must: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(f'{name} must be {must}, got {value!r}.')}$"):
        trial(**{name: value})


@pytest.mark.parametrize(
    ("every", "epochs", "measured"),
    [(1, 3, [1, 2, 3]), (2, 5, [2, 4, 5]), (2, 4, [2, 4]), (9, 3, [3]), (None, 3, [3])],
)
def test_errors_are_measured_every_so_many_epochs_and_after_the_last(
    every: int | None, epochs: int, measured: list[int]
) -> None:
    config = trial(epochs=epochs, evaluate_every=every)
    assert [epoch for epoch in range(1, epochs + 1) if config.is_evaluated(epoch)] == measured


@pytest.mark.parametrize(
    ("every", "averaged_at"), [(2, (1,)), (2, (2, 3)), (None, (4,)), (1, (0,)), (1, (6,)), (3, (3, 6))]
)
def test_averaged_weights_are_measured_after_epochs_with_an_error_only(
    every: int | None, averaged_at: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match=r"^averaged_at must be epochs with an error, from 1 to 5, got \("):
        trial(epochs=5, evaluate_every=every, averaged_at=averaged_at)


def test_the_edges_are_allowed() -> None:
    config = trial(momentum=0.0, weight_decay=0.0, batch_size=1, epochs=1, train_size=1, seed=2**32 - 1, drops=(1.0,))
    assert config.seed == 2**32 - 1
    assert trial(drops=()).drop_epochs == ()
    assert trial(epochs=5, evaluate_every=2, averaged_at=(2, 4, 5)).averaged_at == (2, 4, 5)
    assert ArchitectureConfig(input_dropout=0.0, dropout=0.0, head_padding=1).dropout == 0.0


def test_a_configuration_is_frozen_and_keyword_only() -> None:
    with pytest.raises(FrozenInstanceError):
        trial().lr = 0.1  # type: ignore[misc]
    with pytest.raises(TypeError, match="positional"):
        TrialConfig("shapes", None)  # type: ignore[misc,call-arg]


def test_a_cell_is_data_set_augmentation_and_variant() -> None:
    assert trial(dataset="cifar10", augmentation="flip-shift").cell == "cifar10/flip-shift/all-cnn-c"


@pytest.mark.parametrize(
    ("epochs", "drops"), [(350, (200, 250, 300)), (35, (20, 25, 30)), (4, (2, 3, 3)), (7, (4, 5, 6))]
)
def test_drop_epochs_are_the_same_fractions_of_any_number_of_epochs(epochs: int, drops: tuple[int, ...]) -> None:
    assert trial(epochs=epochs).drop_epochs == drops


@pytest.mark.parametrize(
    ("progress", "expected"),
    [(0.0, 0.05), (199.99, 0.05), (200.0, 0.005), (249.9, 0.005), (250.0, 5e-4), (300.5, 5e-5), (350.0, 5e-5)],
)
def test_the_paper_s_schedule(progress: float, expected: float) -> None:
    assert learning_rate(trial(), progress) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("progress", "expected"), [(0.0, 0.0), (0.5, 0.05), (1.0, 0.1), (2.0, 0.2), (4.0, 0.1), (5.5, 0.05)]
)
def test_warm_up_is_linear_and_drops_follow_it(progress: float, expected: float) -> None:
    config = trial(lr=0.2, epochs=8, warmup_epochs=2.0, drops=(0.5, 0.625), drop_factor=0.5)
    assert learning_rate(config, progress) == pytest.approx(expected, rel=1e-12)


def test_a_drop_within_the_warm_up_counts_already() -> None:
    config = trial(lr=0.4, epochs=8, warmup_epochs=4.0, drops=(0.25,), drop_factor=0.1)
    assert learning_rate(config, 1.0) == pytest.approx(0.1)
    assert learning_rate(config, 3.0) == pytest.approx(0.03)


def test_a_configuration_comes_back_from_json() -> None:
    config = trial(
        data="s3://bucket/images",
        augmentation="flip-shift",
        train_size=500,
        canvas=126,
        heavy=HeavyConfig(rotation=10.0, hue=0.1),
        architecture=ArchitectureConfig(width=0.25, class_relu=False, initialisation="glorot"),
        lr=0.1 + 0.2,
        drops=(1 / 3, 2 / 3),
        seed=2**31,
        plugins=("mine.py", "yours.py"),
        momentum_form="caffe",
        bias_lr_factor=2.0,
        bias_weight_decay=False,
        max_grad_norm=1.5,
        epochs=6,
        evaluate_every=2,
        averaged_at=(4, 6),
    )
    back = TrialConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert back == config
    assert isinstance(back.architecture, ArchitectureConfig)


@pytest.mark.parametrize("name", ["lr", "dataset", "variant"])
def test_a_field_that_is_missing_is_refused(name: str) -> None:
    whole = trial().to_dict()
    with pytest.raises(ValueError, match=rf"^A trial's configuration must hold {name}, got none\.$"):
        TrialConfig.from_dict({field: value for field, value in whole.items() if field != name})


@pytest.mark.parametrize("name", ["heavy", "averaged_at", "label_smoothing"])
def test_a_field_that_came_later_has_its_default(name: str) -> None:
    # What was recorded before there was such a field was trained without it.
    whole = trial().to_dict()
    assert TrialConfig.from_dict({field: value for field, value in whole.items() if field != name}) == trial()


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^A trial's configuration must hold known fields only, got 'leraning_rate'"):
        TrialConfig.from_dict({**trial().to_dict(), "leraning_rate": 0.1})


def test_a_wrong_value_in_a_dictionary_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^lr must be a number above 0, got -1\.$"):
        TrialConfig.from_dict({**trial().to_dict(), "lr": -1})


def test_an_unknown_field_of_the_architecture_is_refused_as_a_user_s_error() -> None:
    with pytest.raises(ValueError, match=r"must hold known fields only, got 'widht'\.$"):
        TrialConfig.from_dict({**trial().to_dict(), "architecture": {"widht": 0.5}})


def test_an_unknown_strength_is_refused_as_a_user_s_error() -> None:
    with pytest.raises(ValueError, match=r"must hold known fields only, got 'rotatoin'\.$"):
        TrialConfig.from_dict({**trial().to_dict(), "heavy": {"rotatoin": 1.0}})


def test_the_configuration_imports_nothing_heavy() -> None:
    script = "import sys, trainables; print(sorted({'torch', 'numpy', 'ray', 'torchvision'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_neither_a_driver_nor_a_trial_loads_what_few_of_them_need() -> None:
    script = (
        "import sys, sweep.session, sweep.execution.trial; "
        "print(sorted({'torchvision', 'kornia', 'torch._dynamo', 'matplotlib'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"
