"""MkDocs hook: pages that are written when the site is built.

``reference/commands.md`` gets what ``vcm COMMAND --help`` says, ``how-to/examples.md`` the scripts of
``docs/examples``; pages of :data:`FILES` are files at the top of the repository.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

ROOT = Path(__file__).parents[2]
FILES = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md", "security.md": "SECURITY.md"}


def on_page_markdown(markdown: str, *, page: Any, **kwargs: Any) -> str | None:
    source = page.file.src_uri
    if source in FILES:
        return (ROOT / FILES[source]).read_text(encoding="utf-8").replace("](docs/", "](")
    if source == "reference/commands.md":
        return markdown + "\n".join(_commands())
    if source == "how-to/examples.md":
        return markdown + "\n".join(_examples())
    return None


def _examples() -> Iterator[str]:
    for name in ("detect_folder.py", "bring_a_head.py", "rate_curve.py"):
        yield f"## {name}\n\n```python\n{(ROOT / 'docs' / 'examples' / name).read_text(encoding='utf-8')}```\n"


def _commands() -> Iterator[str]:
    from vcm.cli import build_app

    group: Any = typer.main.get_command(build_app())
    parent = typer.Context(group, info_name="vcm")
    for name in group.list_commands(parent):
        command = group.get_command(parent, name)
        arguments = [p for p in command.params if p.param_type_name == "argument"]
        options = [p for p in command.params if p.param_type_name == "option" and not p.hidden]
        takes = " ".join(_metavar(p) + ("..." if p.nargs == -1 else "") for p in arguments)
        yield f"## vcm {name}\n\n```console\n$ vcm {name} [OPTIONS] {takes}\n```\n\n{(command.help or '').strip()}\n"
        rows = [(_metavar(p), p.help) for p in arguments]
        rows += [(", ".join(p.opts) + ("" if p.is_flag else f" {_metavar(p)}"), p.help) for p in options]
        yield "| option | |\n|---|---|"
        for what, words in rows:
            yield f"| `{what}` | {_escaped(words)} |"
        yield ""


def _metavar(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name).upper()


def _escaped(text: str | None) -> str:
    """``text`` for a cell of a table: one line, no borders, no links."""
    return (text or "").replace("|", "\\|").replace("[", "&#91;").replace("\n", " ")
