"""matplotlib's SVG made fit for a page: its colours follow the page's theme, its things tell what they are."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping

from analysis.charts.canvas import ACCENT, COLOURS, GRID, INK, MUTED

_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_NAMES = {INK: "--ink", MUTED: "--muted", GRID: "--grid", ACCENT: "--accent"}

VARIABLES: Mapping[str, str] = _NAMES | {
    colour: f"--colour-{place}" for place, colour in enumerate(COLOURS) if colour not in _NAMES
}
"""The page's custom property for each colour that charts draw with."""

_COLOUR = re.compile("|".join(map(re.escape, VARIABLES)))
_LONG = re.compile(r"-?\d+\.\d{2,}")
_LINK = re.compile(r"url\(#([^)]+)\)")


def themed(svg: str, tips: Mapping[str, str], prefix: str, title: str) -> str:
    """Return an `<svg>` element that can stand in a page beside others.

    Args:
        svg: a document that matplotlib wrote.
        tips: what a thing tells, by its id; it comes into the attribute `data-tip`.
        prefix: put before every id, of which a page may have no two alike.
        title: the picture's name for those who do not see it.
    """
    ET.register_namespace("", _SVG)
    ET.register_namespace("xlink", _XLINK)
    # matplotlib has just written it: it is no stranger's XML.
    root = ET.fromstring(svg)  # noqa: S314
    for metadata in root.findall(f"{{{_SVG}}}metadata"):
        root.remove(metadata)
    pixels = float(root.attrib["viewBox"].split()[2])
    root.attrib = {
        "viewBox": root.attrib["viewBox"],
        "role": "img",
        "aria-label": title,
        "style": f"--width: {pixels / 72:.2f}in",
    }
    used = {name for element in root.iter() for name in _links(element)}
    for element in root.iter():
        _mend(element, tips, prefix, used)
    return ET.tostring(root, encoding="unicode")


def _links(element: ET.Element) -> list[str]:
    found = [match for value in element.attrib.values() for match in _LINK.findall(value)]
    return found + [value[1:] for name, value in element.attrib.items() if name.endswith("href") and value[:1] == "#"]


def _mend(element: ET.Element, tips: Mapping[str, str], prefix: str, used: set[str]) -> None:
    own = element.attrib.pop("id", None)
    if own is not None and own in tips:
        element.set("data-tip", tips[own])
    if own is not None and own in used:
        element.set("id", f"{prefix}-{own}")
    for name, value in list(element.attrib.items()):
        if name.endswith("href") and value.startswith("#"):
            # `href` alone is what browsers have long read; xlink is SVG 1.1's.
            del element.attrib[name]
            element.set("href", f"#{prefix}-{value[1:]}")
        elif name == "style":
            themed_style = _COLOUR.sub(lambda match: f"var({VARIABLES[match[0]]})", value)
            element.set(name, _LINK.sub(lambda match: f"url(#{prefix}-{match[1]})", themed_style))
        elif name == "clip-path":
            element.set(name, _LINK.sub(lambda match: f"url(#{prefix}-{match[1]})", value))
        elif name == "d":
            # A tenth of a point is finer than a screen, and half of the file is such numbers.
            element.set(name, _LONG.sub(lambda match: f"{float(match[0]):.1f}", " ".join(value.split())))
