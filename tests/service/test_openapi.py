"""schemathesis finds nothing that the OpenAPI document does not say. ``VCM_SCHEMA_EXAMPLES=100`` looks for longer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from vcm.service import ServiceOptions

# A body may be any bytes and a query any text, and what cannot be read is refused.
CONFIG = """\
[checks]
positive_data_acceptance.expected-statuses = ["2xx", 401, 403, 404, 406, 408, 413, 416, 422, 429, "5xx"]
"""


def test_schemathesis_is_content(archive, run, tmp_path) -> None:
    pytest.importorskip("schemathesis")
    shutil.copytree(archive, tmp_path / "copy")
    (tmp_path / "config.toml").write_text(CONFIG)
    with run(tmp_path / "copy", ServiceOptions(rate=0, token="sesame")) as address:
        command = [
            sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()",
            "--config-file", str(tmp_path / "config.toml"), "run", f"{address}/openapi.json",
            "-H", "Authorization: Bearer sesame", "--max-examples", os.environ.get("VCM_SCHEMA_EXAMPLES", "5"),
            "--phases", "examples,coverage,fuzzing", "--request-timeout", "60", "--suppress-health-check", "all",
        ]  # fmt: skip
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
