"""Versions in a cluster's description: Ray's must be said, and be the one that the project was tested with."""

import re
import shlex
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

from sweep.clusterfile.yaml_file import is_unfilled, shown, within

CONSTRAINTS = Path(__file__).resolve().parents[2] / "constraints.txt"

IMAGES = ("image", "head_image", "worker_image")


@cache
def pinned_ray() -> str:
    """Return Ray's version in constraints.txt, or the installed one where the project was installed without it."""
    if CONSTRAINTS.is_file():
        match = re.search(r"^ray==(\S+)", CONSTRAINTS.read_text(), re.MULTILINE)
        if match:
            return match[1]
    return version("ray")


def image_fault(path: str, image: object) -> str | None:
    """Return a sentence where a container's image is not one of the pinned version of Ray."""
    want = f"{path} must name an image by a tag that begins with Ray's version, {pinned_ray()}, as in constraints.txt"
    if not isinstance(image, str):
        return f"{want}; got {shown(image)}."
    tag = image.rpartition("/")[2].partition("@")[0].partition(":")[2]
    if not tag:
        return f"{want}; got {shown(image)}, which is another image on another day."
    if tag.split("-")[0] in ("latest", "nightly"):
        return f"{want}; got {shown(image)}, which changes from day to day."
    if tag.split("-")[0] != pinned_ray():
        return f"{want}; got {shown(image)}."
    return None


def pin_faults(config: dict[str, Any]) -> list[str]:
    """Return what is wrong with the versions of Ray that images and commands of a `ray up` file name."""
    images = [(f"docker.{key}", within(config, "docker", key)) for key in IMAGES]
    for name, node_type in config["available_node_types"].items():
        images.append((f"available_node_types.{name}.docker.worker_image", within(node_type, "docker", "worker_image")))
    images = [(path, image) for path, image in images if image is not None]
    faults = [fault for path, image in images if not is_unfilled(image) and (fault := image_fault(path, image))]
    named = list(_named_versions(config))
    for path, said, ray in named:
        if ray != pinned_ray():
            faults.append(
                f"{path} must install Ray {pinned_ray()}, as in constraints.txt, got {shown(said)}; Ray takes no node "
                "of another version."
            )
    if not images and not named:
        faults.append(
            f"setup_commands must say which Ray a node gets, such as --ray {pinned_ray()} for scripts/node, got no "
            "version in them and no docker.image."
        )
    return faults


def _named_versions(config: dict[str, Any]) -> Iterator[tuple[str, str, str | None]]:
    """Yield path, words and version of each Ray that commands install; None for the version where it may be any."""
    # After Ray has filled in its defaults, the last two begin with setup_commands.
    seen = set()
    for key in ("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands"):
        for number, command in enumerate(config.get(key) or ()):
            if command in seen:
                continue
            seen.add(command)
            for said, ray in _versions_of(command):
                yield f"{key}[{number}]", said, ray


def _versions_of(command: str) -> Iterator[tuple[str, str | None]]:
    try:
        words = shlex.split(command, comments=True)
    except ValueError:
        words = command.split()
    for word, following in pairwise([*words, ""]):
        if word == "--ray" or word.startswith("--ray="):
            ray = following if word == "--ray" else word.removeprefix("--ray=")
            yield f"--ray {ray}", ray
        elif "pip" in command and (match := re.fullmatch(r"ray(?:\[[^\]]*\])?(?P<rest>[=<>~!@ ].*)?", word)):
            exact = re.fullmatch(r"==([0-9][\w.]*)", match["rest"] or "")
            yield word, exact[1] if exact else None
