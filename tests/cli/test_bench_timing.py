"""What ``vcm bench`` measures with: runs in turn, commands from nothing, processes that want the cores, batches."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from codec_tools import noise
from tiny import TINY_WEIGHTS

import vcm
from vcm.cli.bench import _cold, _crowded, _many
from vcm.cli.bench_timing import beside, cold_start, in_turn
from vcm.cli.bench_work import throughput


def test_operations_take_turns() -> None:
    order: list[str] = []
    timings = in_turn({"a": lambda: order.append("a"), "b": lambda: (order.append("b"), time.sleep(0.02))}, 3)
    assert order == ["a", "b"] * 4
    assert [t.name for t in timings] == ["a", "b"]
    assert timings[1].median_ms >= timings[1].fastest_ms >= 20 > timings[0].fastest_ms


def test_a_command_from_nothing() -> None:
    cold = cold_start(["--version"], 1)
    assert cold is not None
    assert 0 < cold.seconds < 100
    assert 8 < cold.megabytes < 200, "what this process holds is not counted"
    with pytest.raises(RuntimeError, match="failed"):
        cold_start(["no-such-command"], 1)


def test_other_processes_run_in_their_turn_only(tmp_path: Path) -> None:
    beat = tmp_path / "beat"
    code = f"import time\nprint(flush=True)\nwhile True:\n open({str(beat)!r}, 'a').write('.'); time.sleep(0.002)"
    sizes: list[int] = []

    def work() -> None:
        before = beat.stat().st_size if beat.exists() else 0
        time.sleep(0.05)
        sizes.append((beat.stat().st_size if beat.exists() else 0) - before)

    slower = beside(work, {"writer": [["-c", code]]}, 2)
    assert set(slower) == {"writer"}
    assert [size > 0 for size in sizes[2:]] == [False, True, False, True]
    with pytest.raises(RuntimeError, match="no process"):
        beside(work, {"none": [["-c", "pass"]]}, 1)


def test_rows_of_processes_and_batches(tmp_path: Path) -> None:
    codec, pixels = vcm.load(TINY_WEIGHTS), noise(64, 48)
    rows = [*_cold(codec, pixels, str(TINY_WEIGHTS), 1), *_crowded(codec, pixels, str(TINY_WEIGHTS), 1)]
    rows += _many(throughput(codec, pixels, 8))
    assert [row.name.partition(",")[0] for row in rows][:2] == ["vcm detect"] * 2
    assert {"encode beside another", "encode_many", "detect_many"} <= {row.name.partition(",")[0] for row in rows}
    assert all(row.value > 0 for row in rows)
