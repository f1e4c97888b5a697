"""The API reference page, made from the application's own OpenAPI document and served from here."""

from __future__ import annotations

from typing import Any

from litestar import Litestar

METHODS = ("get", "post", "put", "patch", "delete")


def routes_of(app: Litestar) -> dict[str, list[dict[str, Any]]]:
    """Routes by the noun they begin with, each with method, path, text and parameters."""
    document = app.openapi_schema.to_schema()
    groups: dict[str, list[dict[str, Any]]] = {}
    for path, item in sorted(document["paths"].items()):
        group = path.removeprefix("/v1").strip("/").split("/")[0]
        for method in METHODS:
            if operation := item.get(method):
                groups.setdefault(group, []).append(
                    {
                        "method": method.upper(),
                        "path": path,
                        "text": operation.get("description") or operation.get("summary", ""),
                        "parameters": [_parameter(one) for one in operation.get("parameters", ())],
                    }
                )
    return groups


def _parameter(one: dict[str, Any]) -> dict[str, Any]:
    schema = one.get("schema", {})
    choices = [part.get("type", "") for part in schema.get("oneOf", ())] or [schema.get("type", "")]
    kind = " or ".join(str(choice) for choice in choices if choice and choice != "null")
    return {
        "name": one["name"],
        "where": one["in"],
        "required": bool(one.get("required")),
        "type": kind,
        "text": one.get("description", ""),
    }
