"""Configuration files: YAML, read whole, changed by overrides, validated; an unknown key is an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from vcm.errors import ConfigError

__all__ = ["Strict", "override", "read_config"]

M = TypeVar("M", bound=BaseModel)


class Strict(BaseModel):
    """Fields are fixed and an unknown one is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_by_name=False, validate_by_alias=True)


def read_config(path: str | Path, overrides: tuple[str, ...], model: type[M], whole: str = "configuration") -> M:
    """Read YAML, apply ``overrides`` and validate it as ``model``.

    Args:
        path: YAML file.
        overrides: as of :func:`override`.
        model: what it must be.
        whole: what to name where the error is of no single field.

    Raises:
        ConfigError: unreadable, not YAML, unknown key, wrong type, value out of range.
    """
    try:
        content = yaml.safe_load(Path(path).read_text())
    except OSError as error:
        raise ConfigError("the configuration cannot be read", found=f"{path} ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError("the configuration is not YAML", found=str(error).splitlines()[0]) from error
    if not isinstance(content, dict):
        raise ConfigError("the configuration is not a mapping", found=type(content).__name__)
    content = _apart(content)
    for item in overrides:
        override(content, item)
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise _told(error, str(path), whole) from error


def _told(error: ValidationError, path: str, whole: str) -> ConfigError:
    """The first of pydantic's errors, on one line."""
    first = error.errors()[0]
    what = f"{path}: {'.'.join(str(p) for p in first['loc']) or whole}: "
    if first["type"] == "extra_forbidden":
        return ConfigError(f"{what}no such setting", found=first["input"])
    if first["type"] == "union_tag_invalid":
        context = first["ctx"]
        what += f"no such {context['discriminator'].strip(chr(39))}"
        return ConfigError(what, expected=context["expected_tags"], found=context["tag"])
    return ConfigError(f"{what}{first['msg']}", found=first["input"] if first["loc"] else None)


def _apart(node: Any) -> Any:
    """A copy in which what YAML's anchors share is shared no more: a change reaches the place it names only."""
    if isinstance(node, dict):
        return {key: _apart(value) for key, value in node.items()}
    return [_apart(value) for value in node] if isinstance(node, list) else node


def override(content: Any, item: str) -> None:
    """Apply one ``a.b=c`` change to parsed YAML; list items by index, the value is parsed as YAML.

    Raises:
        ConfigError: it is not key=value, or names nothing in ``content``.
    """
    key, sign, value = item.partition("=")
    if not sign:
        raise ConfigError("an override is key=value", found=item)
    *parents, last = key.split(".")
    node = content
    try:
        for part in parents:
            node = node[int(part)] if isinstance(node, list) else node[part]
        parsed = yaml.safe_load(value)
        if isinstance(node, list):
            node[int(last)] = parsed
        else:
            node[last] = parsed
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise ConfigError("an override names nothing in the configuration", found=item) from error
