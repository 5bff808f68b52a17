import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables import ArchitectureConfig, TrialConfig
from trainables.config import learning_rate

calm = settings(deadline=None, derandomize=True, max_examples=50)

rates = st.floats(1e-6, 10)
drops = st.lists(st.floats(0.01, 1), max_size=4).map(lambda values: tuple(sorted(values)))


@st.composite
def trials(draw: st.DrawFn, **fixed: Any) -> TrialConfig:
    epochs = draw(st.integers(1, 400))
    values = {
        "dataset": "shapes",
        "variant": "all-cnn-c",
        "lr": draw(rates),
        "epochs": epochs,
        "drops": draw(drops),
        "drop_factor": draw(st.floats(0.01, 1)),
        "warmup_epochs": draw(st.one_of(st.just(0.0), st.floats(0.1, 50)).map(lambda warmup: min(warmup, epochs))),
        "momentum": draw(st.floats(0, 0.999)),
        "weight_decay": draw(st.floats(0, 1)),
        "batch_size": draw(st.integers(1, 1024)),
        "seed": draw(st.integers(0, 2**32 - 1)),
        "train_size": draw(st.none() | st.integers(1, 50_000)),
        "data": draw(st.none() | st.text()),
        "augmentation": draw(st.sampled_from(["none", "flip-shift"])),
        "preprocessing": draw(st.sampled_from(["gcn-zca", "standardise"])),
        "plugins": draw(st.lists(st.text(), max_size=2).map(tuple)),
        "architecture": ArchitectureConfig(
            width=draw(st.floats(0.01, 4)), dropout=draw(st.floats(0, 0.99)), class_relu=draw(st.booleans())
        ),
    }
    return TrialConfig(**values | fixed)


@calm
@given(trials())
def test_json_brings_every_configuration_back(config: TrialConfig) -> None:
    assert TrialConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@calm
@given(trials(), st.floats(0, 1))
def test_the_rate_is_never_above_the_initial_one(config: TrialConfig, share: float) -> None:
    rate = learning_rate(config, share * config.epochs)
    assert 0 <= rate <= config.lr * (1 + 1e-12)
    assert rate > 0 or share * config.epochs == 0


@calm
@given(trials(warmup_epochs=0.0), st.floats(0, 1), st.floats(0, 1))
def test_without_warm_up_it_never_rises(config: TrialConfig, one: float, other: float) -> None:
    early, late = sorted((one * config.epochs, other * config.epochs))
    assert learning_rate(config, early) >= learning_rate(config, late)


@calm
@given(trials(warmup_epochs=0.0))
def test_all_drops_lie_behind_at_the_end(config: TrialConfig) -> None:
    end = config.lr * math.prod([config.drop_factor] * len(config.drops))
    assert learning_rate(config, config.epochs) == pytest.approx(end, rel=1e-9)


@calm
@given(trials(drops=()), st.floats(0.001, 1))
def test_warm_up_is_linear(config: TrialConfig, share: float) -> None:
    if config.warmup_epochs:
        assert learning_rate(config, share * config.warmup_epochs) == pytest.approx(share * config.lr, rel=1e-9)
    assert learning_rate(config, config.warmup_epochs + share) == pytest.approx(config.lr)


@calm
@given(trials())
def test_drop_epochs_rise_and_lie_within_the_epochs(config: TrialConfig) -> None:
    epochs = config.drop_epochs
    assert list(epochs) == sorted(epochs)
    assert all(0 <= epoch <= config.epochs for epoch in epochs)
    assert all(abs(e - d * config.epochs) <= 0.5 + 1e-9 for e, d in zip(epochs, config.drops, strict=True))


@calm
@given(trials(), st.integers(0, 399), st.integers(1, 500))
def test_no_step_falls_on_a_drop(config: TrialConfig, epoch: int, steps: int) -> None:
    # The loop asks at the middle of a step: all steps of an epoch lie on the same side of each drop.
    epoch %= config.epochs
    progress = [epoch + (step + 0.5) / steps for step in (0, steps - 1)]
    passed = [sum(p >= drop for drop in config.drop_epochs) for p in progress]
    assert passed[0] == passed[1] == sum(epoch >= drop for drop in config.drop_epochs)
