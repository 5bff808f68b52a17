"""What vendors' packages say may stand in a cluster file, as JSON Schema, and a sentence for each fault against it.

A package is read when a file needs it. Without it the schema takes anything, and `unchecked` says so.
"""

import difflib
import json
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from importlib.util import find_spec
from typing import Any

from sweep.clusterfile.yaml_file import is_unfilled, shown

Schema = dict[str, Any]

# What is checked by a module, its distribution on PyPI, and the extra that installs it.
_VENDORS = {
    "aws": ("node_config of EC2", "botocore", "botocore", "cluster"),
    "gcp": ("node_config of Compute Engine", "googleapiclient", "google-api-python-client", "gcp"),
    "kuberay": ("metadata and pod templates of Kubernetes", "kubernetes", "kubernetes", "kuberay"),
}

# Read by Ray beside what its own schema lists.
_RAY_PROVIDER = ("aws_credentials", "coordinator_address", "external_head_ip", "use_external_head_ip")

KUBERNETES = (
    *("V1EnvFromSource", "V1EnvVar", "V1ObjectMeta", "V1PodTemplateSpec", "V1ResourceRequirements"),
    *("V1SecurityContext", "V1Service", "V1VolumeMount"),
)
"""Types of Kubernetes that KubeRay's fields have."""


def unchecked(kind: str) -> str | None:
    """Return a sentence where a package is missing, so that a part of such a file is not checked."""
    if kind not in _VENDORS or _installed(kind):
        return None
    part, _, package, extra = _VENDORS[kind]
    return f"Not checked: fields of {part}; {package} is not installed. Add it: pip install 'all-cnn-sweep[{extra}]'"


def _installed(kind: str) -> bool:
    return find_spec(_VENDORS[kind][1]) is not None


def closed(properties: dict[str, Schema], required: Sequence[str] = (), **more: Any) -> Schema:
    """Return the schema of a mapping with these keys and no others."""
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False, **more}


def ray_cluster() -> Schema:
    """Return Ray's schema of a file for `ray up`."""
    schema: Schema = json.loads((files("ray.autoscaler") / "ray-schema.json").read_text())
    provider = schema["properties"]["provider"]["properties"] | {key: {} for key in _RAY_PROVIDER}
    return schema | {
        "properties": schema["properties"] | {"provider": closed(provider, ["type"])},
        "what": "a key that Ray knows",
    }


def machine(cloud: str) -> Schema:
    """Return the schema of the node_config of a cloud, aws or gcp."""
    if not _installed(cloud):
        return {}
    return _ec2() if cloud == "aws" else _compute_engine()


@cache
def _ec2() -> Schema:
    from botocore.loaders import Loader

    model = Loader().load_service_model("ec2", "service-2")
    shapes = {name: _from_botocore(shape) for name, shape in model["shapes"].items()}
    request = shapes[model["operations"]["RunInstances"]["input"]["shape"]]
    # Ray gives the counts, which EC2 requires, and reads a list of subnets.
    properties = request["properties"] | {"SubnetIds": {"type": "array"}}
    return closed(properties, shapes=shapes, what="a parameter of EC2's RunInstances", package="botocore")


def _from_botocore(shape: Schema) -> Schema:
    if shape["type"] == "structure":
        fields = {name: {"$ref": f"#/shapes/{field['shape']}"} for name, field in shape["members"].items()}
        return closed(fields, shape.get("required", []))
    if shape["type"] == "list":
        return {"type": "array", "items": {"$ref": f"#/shapes/{shape['member']['shape']}"}}
    if shape["type"] in ("timestamp", "blob"):
        return {}
    names = {"long": "integer", "float": "number", "double": "number"}
    enum = {"enum": shape["enum"]} if "enum" in shape else {}
    return {"type": names.get(shape["type"], shape["type"]), **enum}


@cache
def _compute_engine() -> Schema:
    document = files("googleapiclient") / "discovery_cache" / "documents" / "compute.v1.json"
    schemas = json.loads(document.read_text(), object_hook=_from_google)["schemas"]
    fields = {name: field for name, field in schemas["Instance"]["properties"].items() if not field.get("readOnly")}
    # Ray reads a template, and scheduling as a list, too.
    scheduling = {"if": {"type": "array"}, "then": {"items": fields["scheduling"]}, "else": fields["scheduling"]}
    fields |= {"scheduling": scheduling, "sourceInstanceTemplate": {"type": "string"}}
    what = "a field of Compute Engine's instances.insert"
    return closed(fields, schemas=schemas, what=what, package="google-api-python-client")


def _from_google(node: Schema) -> Schema:
    """Turn an object of a discovery document into one of JSON Schema."""
    if isinstance(node.get("$ref"), str):
        return {"$ref": f"#/schemas/{node['$ref']}"}
    if node.get("type") in ("string", "integer", "number"):
        node["type"] = ["string", "number"]  # 64 bits do not fit JSON's numbers, so that Google takes both
    return node | ({"additionalProperties": False} if "properties" in node else {})


def kubernetes() -> dict[str, Schema]:
    """Return the schemas of the types KUBERNETES and of all that they hold, by name."""
    return _kubernetes() if _installed("kuberay") else {name: {} for name in KUBERNETES}


@cache
def _kubernetes() -> dict[str, Schema]:
    from kubernetes.client import models

    schemas: dict[str, Schema] = {}
    for name in KUBERNETES:
        schema = getattr(models, name).model_json_schema(by_alias=True)
        schemas |= schema.pop("$defs", {}) | {name: schema}
    for field in [field for schema in schemas.values() for field in schema["properties"].values()]:
        for choice in field.get("anyOf", ()):
            if choice.get("additionalProperties") == {"type": "string"}:
                choice["additionalProperties"] = {"type": ["string", "number"]}  # quantities, such as cpu: 4
    return schemas


def schema_faults(schema: Schema, value: object, path: str = "") -> list[str]:
    """Return a sentence for each place where the value at `path` is not as the schema says.

    Args:
        schema: JSON Schema, draft 7, with a word for the names that it lists under `what`, and under `package` the
            distribution by whose version its lists of values end.
        value: what the file holds at `path`.
        path: stands before the paths in the sentences.
    """
    import jsonschema

    errors = [leaf for error in jsonschema.Draft7Validator(schema).iter_errors(value) for leaf in _leaves(error)]
    errors = sorted(errors, key=lambda error: str(list(error.absolute_path)))
    return [line for error in errors if not is_unfilled(error.instance) for line in _sentences(error, schema, path)]


def _leaves(error: Any) -> Iterator[Any]:
    """Yield what is wrong with the first choice of several: the others are null, or another scalar."""
    if error.validator != "anyOf":
        yield error
        return
    for part in error.context:
        if part.relative_schema_path[0] == 0:
            yield from _leaves(part)


def _sentences(error: Any, schema: Schema, root: str) -> Iterator[str]:
    path = root + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.absolute_path)
    kind, bound, value = error.validator, error.validator_value, error.instance
    if kind == "additionalProperties":
        known = error.schema["properties"]
        for key in [key for key in value if key not in known]:
            got = f"got it with {shown(value[key])}; {_meant(key, known)}"
            yield f"{path}.{key} must be {schema['what']}, {got}".lstrip(".")
        return
    if kind == "required":
        for key in [key for key in bound if key not in value]:
            yield f"{path}.{key} must be there, got nothing.".lstrip(".")
        return
    must, hint = f"as its schema says ({error.message[:300]})", ""
    if kind == "type":
        must = f"of the type {bound if isinstance(bound, str) else ' or '.join(bound)}"
        hint = "; put it in quotes" if bound == "string" and isinstance(value, int | float) else ""
    elif kind == "enum" and len(bound) > 8:
        must = f"a value that {schema['package']} {version(schema['package'])} lists"
        hint = f"; {_meant(value, bound)} If it is newer, upgrade {schema['package']}"
    elif kind in ("enum", "const", "minimum"):
        must = f"one of {', '.join(bound)}" if kind == "enum" else f"{'at least ' * (kind == 'minimum')}{bound}"
    yield f"{path} must be {must}, got {shown(value)}{hint}.".lstrip(".")


def _meant(given: object, known: Any) -> str:
    close = difflib.get_close_matches(str(given), known, n=1, cutoff=0.7)
    return f"did you mean {close[0]}?" if close else "is it misspelt?"
