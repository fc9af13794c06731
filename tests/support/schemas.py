"""The JSON Schemas that ship with the package, and documents held to them."""

import json
from importlib import resources
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from gptinit.report.jsondoc import Document, render_json

SCHEMAS = ("profile", "compare", "check", "schemes", "audit")


def load_schema(name: str) -> dict[str, Any]:
    file = resources.files("gptinit.report") / "schema" / f"{name}.schema.json"
    schema: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return schema


_REGISTRY: Registry[Any] = Registry().with_resources(
    (f"{name}.schema.json", Resource.from_contents(load_schema(name))) for name in SCHEMAS
)


def validate(name: str, document: Document) -> None:
    """Raise unless the document, as it is written, is what its schema says."""
    validator = Draft202012Validator(
        load_schema(name),
        registry=_REGISTRY,
        format_checker=Draft202012Validator.FORMAT_CHECKER,
    )
    validator.validate(json.loads(render_json(document)))
