"""Many inputs at once: the same results as one by one, in order, with errors in their places and bounded memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from codec_tools import noise
from tiny import TINY_WEIGHTS, tiny_codec

import vcm
from vcm.api.many import run_many
from vcm.errors import FormatError, ImageError, OptionError

PICTURES = [noise(64 + 16 * i, 48, i) for i in range(7)]


@pytest.mark.parametrize("backend", ["torch", "onnx"])
def test_as_one_by_one(backend: Any) -> None:
    codec = vcm.load(TINY_WEIGHTS, backend=backend, threads=2)
    expected = codec.encode(PICTURES, quality=30, base_quality=80)
    for jobs in (None, 1, 3):
        files = [done.get() for done in codec.encode_many(iter(PICTURES), jobs=jobs, quality=30, base_quality=80)]
        assert [file.to_bytes() for file in files] == [file.to_bytes() for file in expected]
        found = [done.get() for done in codec.detect_many(files, jobs=jobs, score=0.05)]
        assert found == codec.detect(expected, score=0.05)
        shown = [done.get() for done in codec.decode_many(files, jobs=jobs)]
        assert all(np.array_equal(a, b) for a, b in zip(shown, codec.decode(expected), strict=True))


@pytest.mark.parametrize("jobs", [1, 3])
def test_an_error_is_the_outcome_of_its_own_picture(jobs: int) -> None:
    sources: list[Any] = [PICTURES[0], "missing.png", PICTURES[1], np.zeros((4, 4, 3), np.uint8)]
    done = list(tiny_codec().encode_many(sources, jobs=jobs, base_only=True))
    assert all(d.source is source for d, source in zip(done, sources, strict=True))
    assert [d.error is None for d in done] == [d.result is not None for d in done] == [True, False, True, False]
    with pytest.raises(ImageError, match=r"missing\.png: no such file"):
        done[1].get()
    (bad,) = tiny_codec().detect_many([b"no file of ours"], jobs=jobs)
    assert isinstance(bad.error, FormatError)


def test_what_is_wrong_with_the_call_is_said_at_once() -> None:
    with pytest.raises(OptionError, match="jobs is out of range"):
        tiny_codec().encode_many(PICTURES, jobs=0)
    with pytest.raises(TypeError, match="qualty"):
        tiny_codec().encode_many(PICTURES, qualty=30)


def test_sources_are_taken_as_they_are_needed_and_no_more_after_the_end() -> None:
    taken: list[int] = []

    def sources() -> Iterator[int]:
        for i in range(100):
            taken.append(i)
            yield i

    results = run_many(lambda i: i * i, sources(), 2)
    assert [next(results).get() for _ in range(5)] == [0, 1, 4, 9, 16]
    assert len(taken) <= 5 + 2 * 2
    before = len(taken)
    results.close()  # type: ignore[attr-defined]
    assert len(taken) == before
    assert not [t for t in threading.enumerate() if t.name.startswith("vcm")]


def test_slow_inputs_keep_their_places_and_run_side_by_side() -> None:
    together = threading.Barrier(2, timeout=60)  # breaks unless two are under way at once

    def work(i: int) -> int:
        if i < 2:
            together.wait()
        time.sleep(0.02 * (i % 3 == 0))
        return i

    assert [done.get() for done in run_many(work, range(9), 2)] == list(range(9))


def test_what_is_no_error_of_ours_is_raised() -> None:
    def work(i: int) -> int:
        return 1 // i

    for jobs in (1, 2):
        results = run_many(work, [1, 0, 1], jobs)
        assert next(results).get() == 1
        with pytest.raises(ZeroDivisionError):
            next(results)
