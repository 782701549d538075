"""``python -m vcm`` is ``vcm``."""

from __future__ import annotations

import sys
from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """Entry point of the ``vcm`` script: :func:`vcm.cli.main`, whose import takes long enough for a Ctrl-C."""
    try:
        from vcm.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
