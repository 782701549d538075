"""What other packages add by entry points: codec families, kinds of heads, metrics."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import Protocol, TypeVar

from vcm.errors import VcmError

__all__ = ["load_plugin", "with_plugins"]

_T = TypeVar("_T")


class _Named(Protocol):
    @property
    def name(self) -> str: ...


_N = TypeVar("_N", bound=_Named)


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


def with_plugins(ours: Iterable[_N], group: str, kind: type[_N], refuse: type[VcmError], what: str) -> dict[str, _N]:
    """Ours by name, then those that installed packages add as entry points of ``group``; arguments as above.

    Raises:
        VcmError: of class ``refuse``: one cannot be loaded, is something else, or has a name that is taken.
    """
    found = {one.name: one for one in ours}
    for entry in entry_points(group=group):
        added = load_plugin(entry, kind, refuse, what)
        if added.name in found:
            raise refuse(f"a {what} of that name exists", expected="a name of its own", found=added.name)
        found[added.name] = added
    return found
