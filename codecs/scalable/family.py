"""The scalable family as the registry knows it: what writes files with codec id 1. Its models are loaded by name."""

from __future__ import annotations

from vcm.codecs.families import CodecFamily
from vcm.codecs.scalable.config import CODEC_ID

__all__ = ["FAMILY"]

FAMILY = CodecFamily("scalable", CODEC_ID)
