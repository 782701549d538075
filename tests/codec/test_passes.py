"""One checkerboard pass in C and in numpy: the same numbers, and what does not fit is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import GOLDEN_FILE, TINY_WEIGHTS

from vcm import entropy
from vcm.codecs.scalable import passes
from vcm.codecs.scalable.fixed_point import GAIN_LIMIT
from vcm.entropy import backend

compiled = pytest.mark.skipif(not passes.COMPILED, reason="the compiled loops are not built or not chosen")


@compiled
@settings(deadline=None, max_examples=60)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_both_give_the_same(h: int, w: int, m: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    parameters = rng.integers(-65535, 65536, (1, 2 * m, h, w)).astype(np.float32)
    parameters[:, m:] //= int(rng.integers(1, 300))
    gain = rng.integers(-GAIN_LIMIT, GAIN_LIMIT + 1, (m, 1)).astype(np.int32)
    fast = passes.passes(backend.compiled)
    made = []
    for functions in (passes.Reference, fast):
        draws = np.random.default_rng(seed)
        fixed, context = np.zeros((m, h * w), np.int64), np.zeros((m, h, w), np.float32)
        seen: list[Any] = [fixed, context]
        for number in (0, 1):
            means, indexes = functions.predict(parameters, gain, number)
            away = np.round(draws.normal(0, 3, means.shape) * 2) / 2 * 2.0 ** (-gain / 32)  # every other one a half
            symbols = functions.quantise((means / 1024 + away).astype(np.float32), means, indexes, gain)
            functions.settle(symbols, means, gain, number, fixed, context)
            seen += [means, indexes, symbols]
        made.append(seen)
    for one, other in zip(*made, strict=True):
        assert one.dtype == other.dtype
        assert np.array_equal(one, other)


@compiled
def test_arrays_that_do_not_fit_are_refused() -> None:
    loops = backend.compiled
    f, i, d, q, b = (lambda n, t=t: np.zeros(n, t) for t in (np.float32, np.int32, np.float64, np.int64, np.uint8))
    for h, w, number, n, count in (
        (2, 3, 0, 11, 3),
        (2, 3, 1, 12, 4),
        (2, 3, 2, 12, 3),
        (-2, -3, 0, 12, 3),
        (0, 3, 0, 0, 0),
    ):
        with pytest.raises(ValueError, match="do not fit"):
            loops.predict(f(n), i(1), h, w, number, 0, i(count), b(count))
        with pytest.raises(ValueError, match="do not fit"):
            loops.settle(i(count), i(count), q(1), h, w, number, q(n // 2), f(n // 2 + n % 2))
    for sizes in ((3, 4, 4, 2, 4), (4, 4, 4, 3, 4), (4, 4, 4, 2, 3), (4, 4, 4, 0, 4)):
        t, m, x, factors, out = sizes
        with pytest.raises(ValueError, match="different lengths"):
            loops.quantise(f(t), i(m), b(x), d(factors), i(out))


def test_without_the_compiled_loops_files_are_the_same(tmp_path: Any) -> None:
    code = f"""
import sys, vcm, numpy as np
from vcm.codecs.scalable.passes import COMPILED
codec = vcm.load({os.fspath(TINY_WEIGHTS)!r}, backend="onnx")
picture = np.random.default_rng(3).integers(0, 256, (90, 110, 3)).astype(np.uint8)
data = codec.encode(picture, quality=70).to_bytes()
open(sys.argv[1], "wb").write(data + codec.decode({os.fspath(GOLDEN_FILE)!r}).tobytes())
print(COMPILED)
"""
    found = []
    for name in ("c", "python"):
        environment = {**os.environ, backend.ENVIRONMENT_VARIABLE: name}
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / name)],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        found.append((done.stdout.strip(), (tmp_path / name).read_bytes()))
    assert found[1][0] == "False"
    assert found[0][0] == str(entropy.BACKEND == "c")
    assert found[0][1] == found[1][1]
