"""The JSON Schemas that gptinit ships: what its documents hold, for whoever reads them."""

import json
from importlib import resources
from typing import Any

from gptinit.errors import unknown_name

__all__ = ["SCHEMAS", "load_schema"]

SCHEMAS: tuple[str, ...] = ("profile", "compare", "check", "schemes", "audit")
"""Every document that has a schema, by the name of its file."""


def load_schema(name: str) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a document.

    `compare`, `check` and `audit` refer to `profile` by its relative id, "profile.schema.json".

    Args:
        name: one of SCHEMAS.

    Raises:
        ConfigError: if there is no such schema.

    Example:
        >>> load_schema("check")["$id"]
        'check.schema.json'
    """
    if name not in SCHEMAS:
        raise unknown_name("schema", name, SCHEMAS)
    file = resources.files("gptinit.report") / "schema" / f"{name}.schema.json"
    schema: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return schema
