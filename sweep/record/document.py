"""study.json as bytes and back, and what it must hold for a table to be made of it."""

import json
from collections.abc import Mapping
from typing import Any

from trainables.common.validation import line, shown

_NAMES = {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1, "uniqueItems": True}
_COUNT = {"type": "integer", "minimum": 0, "maximum": 2**53}
_SEEDS = {"type": ["integer", "null"], "minimum": 0, "maximum": 2**53}
_POSITIVE = {"type": "number", "exclusiveMinimum": 0, "maximum": 1e300}
_DIMENSION = {
    "type": "object",
    "oneOf": [
        {
            "properties": {
                "kind": {"const": "choice"},
                "values": {"type": "array", "items": {"type": "number", "minimum": 0, "maximum": 1e300}, "minItems": 1},
            },
            "required": ["kind", "values"],
        },
        {
            "properties": {"kind": {"const": "log-uniform"}, "low": _POSITIVE, "high": _POSITIVE},
            "required": ["kind", "low", "high"],
        },
    ],
}
_TEXT = {"type": ["string", "null"]}


def _object(required: Mapping[str, Any], optional: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the schema of an object from those of its properties, by name."""
    return {"type": "object", "properties": {**required, **(optional or {})}, "required": list(required)}


_EXECUTION = {
    "created": {"type": "string"},
    "command": {"type": "array", "items": {"type": "string"}},
    "code": _object({"commit": _TEXT, "altered": {"type": ["boolean", "null"]}}),
    "packages": {"type": "object", "additionalProperties": _TEXT},
    "hardware": _object(
        {"cpus": _COUNT, "gpus": _COUNT, "gpu": _TEXT, "machine": {"type": "string"}, "system": {"type": "string"}}
    ),
}
"""When, how and by which code and versions, on what, a run was begun or resumed."""

_BASE = {
    **dict.fromkeys(("preprocessing", "canvas", "momentum", "weight_decay", "batch_size", "iterations"), True),
    **dict.fromkeys(("drop_factor", "warmup_epochs"), True),
    "epochs": {"type": "integer", "minimum": 1, "maximum": 2**53},
    "drops": {"type": "array", "items": {"type": "number", "minimum": 0, "maximum": 1}},
    "architecture": _object(dict.fromkeys(("width", "input_dropout", "dropout", "class_relu", "head_padding"), True)),
}
_OPTIONAL = {"gpu_sharing": _TEXT}
SCHEMA: Mapping[str, Any] = _object(
    {
        "study": _object(
            {
                "name": {"type": "string"},
                "datasets": _NAMES,
                "augmentations": _NAMES,
                "variants": _NAMES,
                "protocol": {"enum": ["holdout", "paper"]},
                "criterion": {"enum": ["last", "best-epoch"]},
                "search": {"type": "string"},
                "early_stopping": {"type": "string"},
                "trials_per_cell": _SEEDS,
                "seeds": _SEEDS,
                "learning_rates": _DIMENSION,
                "weight_decays": {"anyOf": [{"type": "null"}, _DIMENSION]},
                "batch_sizes": {"anyOf": [{"type": "null"}, _DIMENSION]},
                "base": _object(_BASE),
            }
        ),
        "data": {
            "type": "object",
            "additionalProperties": _object(
                {
                    "checksum": {"type": "string"},
                    "train_images": _COUNT,
                    "test_images": {**_COUNT, "minimum": 1},
                    "num_classes": {**_COUNT, "minimum": 1},
                    "generated": {"type": "boolean"},
                }
            ),
        },
        "planned_trials": _COUNT,
        "placement": _object({"gpus_per_trial": {"type": ["number", "null"], "minimum": 0}}),
        "workers": _COUNT,
        "plugins": {"type": "array", "items": _object({"file": {"type": "string"}, "sha256": {"type": "string"}})},
        **_EXECUTION,
    },
    {
        **_OPTIONAL,
        "resumed": {"type": "array", "items": _object(_EXECUTION, _OPTIONAL)},
        "extended": {"type": "array", "items": _object({"changes": {"type": "object"}})},
    },
)
"""What of study.json is read for a table, as a JSON schema; whatever else is there is not looked at."""


def write_json(document: Mapping[str, Any]) -> bytes:
    """Return a document as the text of study.json."""
    return (json.dumps(document, indent=2, sort_keys=True) + "\n").encode()


def read_json(raw: bytes, path: str) -> Any:
    """Return what JSON text says.

    Args:
        raw: the text.
        path: names the file in messages.

    Raises:
        ValueError: it is no JSON, too deep, or text that cannot be written as UTF-8.
    """
    try:
        document = json.loads(raw)
        json.dumps(document, ensure_ascii=False).encode()
    # A file of brackets alone nests deeper than Python goes.
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} must be JSON, got a broken file ({line(error, longest=200)}).") from error
    return document


def check_document(document: Mapping[str, Any], path: str) -> None:
    """Check that a table can be made of a run.

    Args:
        document: contents of study.json.
        path: names the file in the message.

    Raises:
        ValueError: something is missing or is not what a run writes; the message says where.
    """
    # Here, since a run that is about to begin needs it as little as `--help` does.
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    error = best_match(Draft202012Validator(SCHEMA).iter_errors(document))
    if error is not None:
        raise ValueError(
            f"{path} must hold what a run writes, got something else at {error.json_path[2:][:100] or 'its top'} "
            f"({shown(error.message)[1:-1]})."
        )
    unknown = [name for name in document["study"]["datasets"] if name not in document["data"]]
    if unknown:
        raise ValueError(f"{path} must describe the data of each data set, got none of {shown(unknown[0])}.")
