"""What leaves this machine: records and recipes without its absolute paths, and without the words of removal requests."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from configs.store import digest_bytes

EXCLUDE = "prepare.exclude"
HASHED = "sha256:"
"""Stands before the hash of a removal request, which may name a person."""


def public_path(path: str) -> str:
    """A path as it may be told: a relative one or a hub id as it is, of an absolute one the last part.

    >>> public_path("Qwen/Qwen3-0.6B-Base"), public_path("/models/tiny"), public_path("/data/a.zip!inner/*.json")
    ('Qwen/Qwen3-0.6B-Base', 'tiny', 'a.zip!inner/*.json')
    """
    if not path.startswith("/") or "\n" in path or "{{" in path:
        return path
    outer, mark, inner = path.partition("!")
    return PurePosixPath(outer).name + mark + inner


def public_label(label: str) -> str:
    """The label of an input, whose last word may be a path.

    >>> public_label("base /models/tiny"), public_label("corpus")
    ('base tiny', 'corpus')
    """
    before, slash, path = label.partition(" /")
    return f"{before} {public_path(f'/{path}')}" if slash else public_path(label)


def public_value(value: Any, key: str = "") -> Any:
    """A setting, or the part of a recipe that stands at a key, `prepare.exclude`, as it may be told; told twice, it stays."""
    if isinstance(value, dict):
        return {name: public_value(inner, f"{key}.{name}" if key else name) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [public_value(inner, key) for inner in value]
    if not isinstance(value, str):
        return value
    if key == EXCLUDE:
        return value if value.startswith(HASHED) else f"{HASHED}{digest_bytes(value.encode())}"
    return public_path(value)


def public_record(tree: dict[str, Any]) -> dict[str, Any]:
    """A record, as JSON, as it may be told."""
    settings = {key: public_value(value, key) for key, value in tree["settings"].items()}
    inputs = {public_label(label): digest for label, digest in tree["inputs"].items()}
    base = {"base": public_path(tree["base"])} if "base" in tree else {}
    return {**tree, "settings": settings, "inputs": inputs, **base}


def absolute_paths(value: Any) -> list[str]:
    """All values in a tree that are absolute paths, the longest first.

    >>> absolute_paths({"base": "/models/tiny", "data": ["/models", "here"]})
    ['/models/tiny', '/models']
    """
    if isinstance(value, str):
        return [value] if public_path(value) != value else []
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return sorted({path for it in inner for path in absolute_paths(it)}, key=lambda path: (-len(path), path))
