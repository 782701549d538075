"""Entropy coding of integer latents: integer Gaussian tables and a rANS coder. Imports numpy, never torch.

``docs/entropy.md`` specifies the tables and the streams.
"""

from __future__ import annotations

from typing import Final

from vcm.entropy.backend import BACKEND as BACKEND
from vcm.entropy.coder import Decoder as Decoder
from vcm.entropy.coder import Encoder as Encoder
from vcm.entropy.coder import cost_bits as cost_bits
from vcm.entropy.tables import MAX_SYMBOL as MAX_SYMBOL
from vcm.entropy.tables import NUM_SCALES as NUM_SCALES
from vcm.entropy.tables import SCALE_MIN_LOG2 as SCALE_MIN_LOG2
from vcm.entropy.tables import SCALE_STEPS_PER_OCTAVE as SCALE_STEPS_PER_OCTAVE
from vcm.entropy.tables import SKIP_INDEX as SKIP_INDEX
from vcm.entropy.tables import build_gaussian_table as build_gaussian_table
from vcm.entropy.tables import scales as scales
from vcm.entropy.tables import table_digest as _table_digest

__all__ = [
    "BACKEND", "MAX_SYMBOL", "NUM_SCALES", "SCALE_MIN_LOG2", "SCALE_STEPS_PER_OCTAVE", "SKIP_INDEX", "TABLE_DIGEST",
    "Decoder", "Encoder", "build_gaussian_table", "cost_bits", "scales",
]  # fmt: skip

TABLE_DIGEST: Final[str] = _table_digest()
"""SHA-256, 64 hexadecimal digits, of what decoding a stream depends on: coder version, ``SKIP_INDEX`` and the table."""
