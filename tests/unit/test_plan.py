from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from search_spaces import Choice, Space
from sweep.cluster.connect import Cluster
from sweep.execution.plan import Plan, check_study, make_plan, open_data, place
from sweep.execution.trial import HEAD, Placement
from sweep.study.catalog import STUDIES
from trainables.architectures import register_variant
from trainables.config import ArchitectureConfig
from trainables.recipe import Recipe


def cluster(cpus: int = 8, gpus: int = 0) -> Cluster:
    return Cluster(nodes=((cpus, gpus),), address="this machine")


@pytest.mark.parametrize(
    ("cpus", "gpus", "workers", "per_trial", "most", "expected"),
    [
        (8, 0, None, None, None, (Placement(), 8)),
        (8, 0, None, None, 3, (Placement(), 3)),
        (8, 0, None, None, 99, (Placement(), 8)),
        (8, 0, 1, None, None, (Placement(workers=1), 8)),
        (8, 0, 3, None, None, (Placement(workers=3), 2)),
        (8, 2, None, None, None, (Placement(gpus_per_worker=1.0), 2)),
        (8, 2, None, 0.0, None, (Placement(), 8)),
        (8, 2, None, 0.25, None, (Placement(gpus_per_worker=0.25), 8)),
        (32, 2, None, 0.25, None, (Placement(gpus_per_worker=0.25), 8)),
        (32, 1, None, 0.1, None, (Placement(gpus_per_worker=0.1), 10)),
        (8, 4, 2, None, None, (Placement(workers=2, gpus_per_worker=1.0), 2)),
        (8, 4, 2, 2.0, None, (Placement(workers=2, gpus_per_worker=1.0), 2)),
        (8, 4, None, 2.0, None, (Placement(workers=2, gpus_per_worker=1.0), 2)),
        (8, 2, None, 0.6, None, (Placement(gpus_per_worker=0.6), 2)),
        (1, 8, None, None, None, (Placement(gpus_per_worker=1.0), 1)),
    ],
)
def test_what_a_trial_gets_and_how_many_run_at_once(
    cpus: int, gpus: int, workers: int | None, per_trial: float | None, most: int | None, expected: object
) -> None:
    assert place(cluster(cpus, gpus), workers=workers, gpus=per_trial, max_concurrent=most) == expected


@pytest.mark.parametrize(
    ("gpus", "workers", "per_trial", "most", "text"),
    [
        (0, 0, None, None, "workers_per_trial must be auto, or at least 1 and at most 10000, got 0."),
        (0, -2, None, None, "workers_per_trial must be auto, or at least 1 and at most 10000, got -2."),
        (0, None, None, 0, "max_concurrent must be at least 1, got 0."),
        (1, None, -0.5, None, "gpus_per_trial must be at least 0, got -0.5."),
        (1, None, float("nan"), None, "gpus_per_trial must be at least 0, got nan."),
        (
            4,
            2,
            1.0,
            None,
            "gpus_per_trial must be 0, or 2 for one GPU to each worker, or below 1 where a single worker shares a GPU, "
            "got 1.",
        ),
        (
            4,
            None,
            1.5,
            None,
            "gpus_per_trial must be 0, or 1 for one GPU to each worker, or below 1 where a single worker shares a GPU, "
            "got 1.5.",
        ),
        (
            0,
            9,
            None,
            None,
            "workers_per_trial must leave one trial within the 8 CPUs of this machine, got 9, which needs 9.",
        ),
        (0, None, 0.5, None, "gpus_per_trial must be at most 0, the GPUs of this machine, got 0.5."),
        (2, None, 99.0, None, "gpus_per_trial must be at most 2, the GPUs of this machine, got 99."),
        (
            2,
            4,
            None,
            None,
            "workers_per_trial must be at most 2, the GPUs of this machine, got 4; "
            "add --gpus-per-trial 0 to train on CPUs.",
        ),
    ],
)
def test_what_does_not_fit_is_refused(
    gpus: int, workers: int | None, per_trial: float | None, most: int | None, text: str
) -> None:
    with pytest.raises(ValueError, match="must") as caught:
        place(cluster(8, gpus), workers=workers, gpus=per_trial, max_concurrent=most)
    assert str(caught.value) == text


def test_each_worker_must_fit_one_node() -> None:
    apart = Cluster(nodes=((4, 0), (0, 2)), address="10.0.0.1:6379")
    with pytest.raises(ValueError, match=r"a CPU and its GPU on one node of 10\.0\.0\.1:6379, got 1, for which"):
        place(apart, workers=None, gpus=None, max_concurrent=None)
    uneven = Cluster(nodes=((3, 1), (8, 2), (2, 0)), address="10.0.0.1:6379")
    assert place(uneven, workers=None, gpus=None, max_concurrent=None)[1] == 3
    assert place(uneven, workers=None, gpus=0, max_concurrent=None)[1] == 13
    assert place(uneven, workers=3, gpus=None, max_concurrent=None)[1] == 1


def test_a_trial_without_a_cpu_is_refused() -> None:
    with pytest.raises(ValueError, match="within the 0 CPUs of this machine, got 1, which needs 1"):
        place(cluster(0), workers=None, gpus=None, max_concurrent=None)


def test_what_tune_reserves() -> None:
    assert Placement(gpus_per_worker=0.5).resources().bundles == [{"CPU": 1, "GPU": 0.5}]
    # Workers reserve their own places; the driver waits on the head, without a CPU.
    assert Placement(workers=3).resources().bundles == [{k: v for k, v in HEAD.items() if v}]
    assert (Placement(workers=3, gpus_per_worker=1.0).cpus, Placement(workers=3, gpus_per_worker=1.0).gpus) == (3, 3.0)


def test_a_plan_counts_trials_and_epochs() -> None:
    study = replace(STUDIES["quickstart"](), protocol="paper", seeds=3)
    parameters = check_study(study)
    plan = Plan(
        study=study, datasets={}, parameters=parameters, placement=Placement(), slots=2, cluster=cluster(), asked={}
    )
    assert list(parameters) == [cell.cell for cell in study.cells()]
    assert plan.trials == 4 * 2 * 3
    assert plan.epochs == plan.trials * study.base.epochs
    searched = replace(plan, study=replace(study, space=Space(epochs=Choice((1, 2)))))
    assert (searched.trials, searched.epochs) == (4 * 2 * 3, 4 * 2 * 3 * 2)
    holdout = replace(plan, study=STUDIES["quickstart"]())
    assert (holdout.study.search_trials, holdout.trials) == (4 * 2, 4 * 2 + 4 * 3)


SMALL = Recipe(name="small", settings={"batch_size": 10})


@pytest.mark.parametrize(
    ("gpus", "changes", "of_base", "expected"),
    [
        # 200 images: 10 batches of 20 an epoch, and 80,000 steps in 8,000 epochs.
        (1.0, {}, {"epochs": 8000}, True),
        (0.25, {}, {"epochs": 8000}, True),
        (1.0, {}, {"epochs": 7999}, False),
        (0.0, {}, {"epochs": 8000}, False),
        (1.0, {}, {"epochs": 1, "compiled": "yes"}, True),
        (0.0, {}, {"epochs": 1, "compiled": "yes"}, False),
        (1.0, {}, {"epochs": 8000, "compiled": "no"}, False),
        # Batches of 10 make twice the steps: where they are searched, or a recipe's.
        (1.0, {"space": Space(batch_size=Choice((40, 10)))}, {"epochs": 4000}, True),
        (1.0, {"space": Space(batch_size=Choice((40, 20)))}, {"epochs": 4000}, False),
        # The study's own batch size is not among those searched.
        (1.0, {"space": Space(batch_size=Choice((40,)))}, {"epochs": 8000}, False),
        # Where the batch size is searched beside Caffe's momentum alone, the others have the study's own.
        (
            1.0,
            {
                "space": Space(
                    momentum_form=Choice(("pytorch", "caffe")), batch_size=Choice((40,)).when("momentum_form", "caffe")
                )
            },
            {"epochs": 8000},
            True,
        ),
        (1.0, {"space": Space(epochs=Choice((1, 8000)))}, {"epochs": 1}, True),
        (1.0, {"space": Space(epochs=Choice((1, 2)))}, {"epochs": 8000}, False),
        (1.0, {"space": Space(compiled=Choice(("no", "yes")))}, {"compiled": "no"}, True),
        (1.0, {"recipes": (SMALL,), "variants": ("model-c", "model-c.small")}, {"epochs": 4000}, True),
        (1.0, {"recipes": (SMALL,), "variants": ("model-c",)}, {"epochs": 4000}, False),
    ],
)
def test_trials_that_may_be_compiled(
    gpus: float, changes: dict[str, Any], of_base: dict[str, Any], expected: bool
) -> None:
    study = STUDIES["quickstart"]()
    study = replace(study, base=replace(study.base, train_size=200, batch_size=20, **of_base), **changes)
    plan = Plan(
        study=study,
        datasets=open_data(study),
        parameters={},
        placement=Placement(gpus_per_worker=gpus),
        slots=1,
        cluster=cluster(),
        asked={},
    )
    assert plan.may_compile is expected


def test_parameters_of_the_papers_all_cnn_c() -> None:
    # By hand: 3x3x3x96+96, 2 (9x96x96+96), 9x96x192+192, 3 (9x192x192+192), 192x192+192, 192x10+10.
    by_hand = 2688 + 2 * 83040 + 166080 + 3 * 331968 + 37056 + 1930
    assert check_study(STUDIES["cifar10"]())["cifar10/none/all-cnn-c"] == by_hand


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"variants": ("nope",)}, "variant must be one of model-a, .*, got 'nope'"),
        ({"datasets": ("nope",)}, "dataset must be one of cifar10, .*, got 'nope'"),
    ],
)
def test_unknown_names_are_refused(change: dict[str, tuple[str, ...]], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        check_study(replace(STUDIES["quickstart"](), **change))  # type: ignore[arg-type]


@pytest.mark.parametrize("canvas", [None, 32, 125])
def test_a_network_that_cannot_take_images_of_their_size_is_refused(canvas: int | None) -> None:
    study = STUDIES["cifar10-large"]()
    side = canvas or 32
    with pytest.raises(ValueError, match="must") as caught:
        check_study(replace(study, base=replace(study.base, canvas=canvas)))
    assert str(caught.value).startswith(
        f"canvas must make images that large-all-cnn can take, got {canvas}, which makes them {side}x{side} px ("
    )
    assert str(caught.value).endswith("); set another canvas or leave out that variant.")
    assert "\n" not in str(caught.value)


def test_a_canvas_smaller_than_the_images_is_refused() -> None:
    study = STUDIES["quickstart"]()
    with pytest.raises(ValueError, match=r"^canvas must be at least 32, the side of the images in px, got 31\.$"):
        check_study(replace(study, base=replace(study.base, canvas=31)))
    assert check_study(replace(study, base=replace(study.base, canvas=33)))


@pytest.mark.usefixtures("registries")
@pytest.mark.parametrize(
    "compute",
    [
        lambda images: images.sum().item(),  # no number without data
        lambda images: torch.from_numpy(images.numpy()),
        lambda images: torch.ones(1, device="cpu") * images.mean((1, 2, 3)) + images.flatten(1)[:, 0],
        lambda images: {}["nothing"],  # its trial fails and says so
    ],
)
def test_what_a_user_s_network_does_only_with_data_is_left_to_its_trial(compute: Callable[..., object]) -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, images: torch.Tensor) -> object:
            return compute(images)

    register_variant("own-net")(lambda options, num_classes: Own())
    study = replace(STUDIES["quickstart"](), variants=("own-net",))
    assert check_study(study) == {"shapes/none/own-net": 1}


@pytest.mark.usefixtures("registries")
def test_what_a_network_refuses_with_pixels_too_is_refused_whatever_its_words() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, images: torch.Tensor) -> object:
            raise RuntimeError(f"no metadata for {images.shape[-1]} px")

    register_variant("own-net")(lambda options, num_classes: Own())
    with pytest.raises(ValueError, match=r"^canvas must make images that own-net can take, .*no metadata for 32 px"):
        check_study(replace(STUDIES["quickstart"](), variants=("own-net",)))


def test_a_width_that_leaves_a_layer_without_channels_is_refused() -> None:
    study = STUDIES["quickstart"]()
    narrow = replace(study, base=replace(study.base, architecture=ArchitectureConfig(width=0.001)))
    with pytest.raises(ValueError, match=r"width must leave every layer at least one channel, got 0.001"):
        check_study(narrow)


def test_the_batches_of_a_recipe_are_shared_by_the_workers_of_a_streamed_trial() -> None:
    recipes = (Recipe(name="small", settings={"batch_size": 2}), Recipe(name="large", settings={"batch_size": 256}))
    streamed = replace(STUDIES["imagenet"](), recipes=recipes)

    def planned(recipe: str) -> Plan:
        study = replace(streamed, variants=(f"imagenet-all-cnn-b.{recipe}",))
        return make_plan(study, parameters={}, datasets={}, cluster=cluster(8), workers=4)

    with pytest.raises(ValueError, match=r"batch_size must .*got 2"):
        planned("small")
    assert planned("large").placement.workers == 4
