"""Codecs by what a person types (``jpeg``, ``avif:speed=4``, ``vvc@50``), and the family of the conventional ones."""

from __future__ import annotations

import re

from vcm.codecs.families import CodecFamily, builders
from vcm.codecs.jpegxl import JpegXlCodec
from vcm.codecs.pillow import HeicCodec, Jpeg2000Codec, UncompressedCodec, avif, jpeg, webp
from vcm.codecs.protocol import ImageCodec
from vcm.codecs.resampled import ResampledCodec
from vcm.codecs.vvc import VvcCodec
from vcm.errors import OptionError

__all__ = ["FAMILY", "load_anchor", "parse_spec"]

_Options = dict[str, str]


def _integer(options: _Options, key: str, default: int) -> int:
    text = options.pop(key, str(default))
    if not text.isascii() or not text.isdigit():
        raise OptionError(f"codec option {key}", expected="a whole number", found=text)
    return int(text)


def _flag(options: _Options, key: str) -> bool:
    text = options.pop(key, "0")
    if text not in ("0", "1"):
        raise OptionError(f"codec option {key}", expected="0 or 1", found=text)
    return text == "1"


def _vvc(options: _Options) -> ImageCodec:
    return VvcCodec(
        encoder=options.pop("encoder", "vvencapp"),
        decoder=options.pop("decoder", "vvdecapp"),
        preset=options.pop("preset", "faster"),
        bit_depth=_integer(options, "bits", 10),
        perceptual=_flag(options, "perceptual"),
        config=options.pop("config", None),
    )


def _heic(options: _Options) -> ImageCodec:
    return HeicCodec(options.pop("preset", "slow"), options.pop("tune", "ssim"), _integer(options, "chroma", 420))


FAMILY = CodecFamily(
    "conventional",
    builders={
        "uncompressed": lambda options: UncompressedCodec(),
        "jpeg": lambda options: jpeg(),
        "jpeg2000": lambda options: Jpeg2000Codec(),
        "webp": lambda options: webp(),
        "jpegxl": lambda options: JpegXlCodec(_integer(options, "effort", 7)),
        "heic": _heic,
        "avif": lambda options: avif(_integer(options, "speed", 6)),
        "vvc": _vvc,
    },
)

_SPEC = re.compile(r"(?P<name>[\w.+-]+)(@(?P<percent>\d+))?(:(?P<options>.*))?")


def parse_spec(spec: str) -> tuple[str, int | None, dict[str, str]]:
    """Name, scale in percent and options of ``NAME[@PERCENT][:KEY=VALUE[;KEY=VALUE…]]``.

    Raises:
        OptionError: it is not of that form.
    """
    match = _SPEC.fullmatch(spec.strip())
    options: dict[str, str] = {}
    for part in (match["options"] or "").split(";") if match else ():
        if not part:
            continue
        key, equals, value = part.partition("=")
        if not equals or not key or key in options:
            match = None
            break
        options[key] = value
    if match is None:
        raise OptionError("codec", expected="NAME[@PERCENT][:KEY=VALUE;KEY=VALUE]", found=spec)
    return match["name"], int(match["percent"]) if match["percent"] else None, options


def load_anchor(spec: str) -> ImageCodec:
    """The codec of a specification such as ``vvc@50:preset=medium;bits=8``, of any family.

    Raises:
        OptionError: no such codec or option, or a value out of its range.
        CodecFamilyError: families of installed packages clash.
        MissingDependencyError: its library or program is not installed.
    """
    name, percent, options = parse_spec(spec)
    known = builders()
    if name not in known:
        raise OptionError("no such codec", expected=", ".join(known), found=name)
    codec = known[name](options)
    if options:
        raise OptionError(f"{name} has no such option", found=", ".join(sorted(options)))
    return codec if percent in (None, 100) else ResampledCodec(codec, percent or 0)
