"""``python -m vcm`` is ``vcm``."""

from __future__ import annotations

from vcm.cli import main

if __name__ == "__main__":
    main()
