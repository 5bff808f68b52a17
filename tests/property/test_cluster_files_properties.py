"""Whatever stands in a cluster file, the check says so in sentences."""

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sweep.clusterfile.check import check_file
from tests.cluster_files import SHIPPED, filled

NONSENSE = st.sampled_from([None, 0, -1, 2.5, True, "", "x", "0", [], ["x"], [None], [[]], {}, {"x": None}, {"x": {}}])


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the way to each value."""
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [place for key, child in children for place in ((*path, key), *places(child, (*path, key)))]


def values(name: str) -> Any:
    """Return a filled file's contents, nothing in them shared between two places."""
    return yaml.safe_load(yaml.dump(yaml.safe_load(filled(name)), Dumper=_Plain))


class _Plain(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


@pytest.mark.parametrize(
    ("name", "missing"), [*((name, "") for name in SHIPPED), ("clusters/kuberay.yaml", "kubernetes")]
)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_one_value_replaced_or_gone_is_good_or_gets_sentences(
    tmp_path: Path, name: str, missing: str, data: st.DataObject
) -> None:
    description = values(name)
    place = data.draw(st.sampled_from(places(description)))
    *way, last = place
    parent = description
    for key in way:
        parent = parent[key]
    if data.draw(st.booleans()):
        del parent[last]
    else:
        parent[last] = data.draw(NONSENSE)
    file = tmp_path / "file.yaml"
    file.write_text(yaml.dump(description))
    try:
        with pytest.MonkeyPatch.context() as packages:
            if missing:
                packages.setitem(sys.modules, missing, None)
            faults = check_file(file).faults
    except ValueError as error:
        faults = [str(error)]
    for fault in faults:
        assert " must " in fault, fault
        assert len(fault) < 1000
