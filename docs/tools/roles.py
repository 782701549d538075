"""Griffe extension: Sphinx roles in our docstrings (``:class:`~vcm.api.Codec```) become links of the site."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:mod|class|func|meth|attr|data|exc|obj):`(~?)([\w.]+)(?:\(\))?`")


class Roles(griffe.Extension):
    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is None:
            return

        def link(match: re.Match[str]) -> str:
            short, name = match.group(1), match.group(2)
            target = name if name.startswith("vcm.") or name == "vcm" else _absolute(obj, name)
            shown = name.rpartition(".")[2] if short else name
            # Names that the reference leaves out stay words.
            return f'<autoref identifier="{target}" optional><code>{shown}</code></autoref>'

        obj.docstring.value = _ROLE.sub(link, obj.docstring.value)


def _absolute(obj: griffe.Object, name: str) -> str:
    """``name`` as seen from ``obj``: a member of its class, else of its module or of what that imports."""
    places = [obj, *([obj.parent] if obj.parent is not None else [])]
    for place in places:
        first = name.split(".")[0]
        if first in place.members:
            return f"{place.path}.{name}"
    try:
        return obj.resolve(name)
    except griffe.NameResolutionError:
        return f"{obj.module.path}.{name}"
