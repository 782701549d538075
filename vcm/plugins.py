"""What other packages add by entry points: codec families, kinds of heads, metrics."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import TypeVar

from vcm.errors import VcmError

__all__ = ["load_plugin"]

_T = TypeVar("_T")


def load_plugin(entry: EntryPoint, kind: type[_T], refuse: type[VcmError], what: str) -> _T:
    """What an entry point names.

    Args:
        entry: the entry point.
        kind: class that it must be of.
        refuse: the error.
        what: it is, for the error: ``codec family``.

    Raises:
        VcmError: of class ``refuse``: it cannot be imported, or is something else.
    """
    try:
        found = entry.load()
    except (ImportError, AttributeError) as error:
        raise refuse(f"the {what} {entry.name} cannot be loaded", expected=entry.value, found=str(error)) from error
    if not isinstance(found, kind):
        raise refuse(f"{entry.value} is no {what}", expected=f"a {kind.__name__}", found=type(found).__name__)
    return found
