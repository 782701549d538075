"""Codecs of an evaluation by what a person types: anchors, our own models, and both together."""

from __future__ import annotations

from vcm.codecs.anchors import load_anchor, parse_spec
from vcm.codecs.families import builders
from vcm.codecs.protocol import ImageCodec
from vcm.errors import OptionError
from vcm.eval.run.carried import CARRIED, CarryingPicture, PictureOnBase
from vcm.eval.run.ours import QUALITY, SCORE, VcmBaseCodec, VcmCodec

__all__ = ["MODELS", "SCORE", "VcmBaseCodec", "VcmCodec", "load_codecs"]

MODELS = ("vcm-s",)
"""Models that may be named like an anchor."""


def load_codecs(specs: list[str], *, base: bool) -> list[ImageCodec]:
    """Codecs by what a person types: anchors (:func:`vcm.codecs.anchors.load_anchor`) and our own models.

    Args:
        specs: ``jpeg``, ``vvc@50:preset=medium``, ``vcm-s``, ``vcm-s-base``, ``vcm-s:weights=FILE;base_quality=30``;
            ``avif+base`` (a file of ours with an AVIF picture), ``avif-carrying`` (an AVIF that carries a base).
        base: let ``vcm-s`` mean its base layer with the detection head as well.

    Raises:
        OptionError: an unknown codec or option, or one that is there twice.
    """
    codecs: list[ImageCodec] = []
    for spec in specs:
        codecs.extend(_load(spec, base))
    names = [codec.name for codec in codecs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise OptionError("codec named twice", found=", ".join(twice))
    return codecs


def _load(spec: str, base: bool) -> list[ImageCodec]:
    name, percent, options = parse_spec(spec)
    both = _WITH_BASE.get(name)
    model = name.removesuffix("-base")
    if model not in MODELS and both is None:
        known = builders()
        if name not in known:
            raise OptionError("no such codec", expected=", ".join([*MODELS, *_WITH_BASE, *known]), found=name)
        return [load_anchor(spec)]
    weights, text = options.pop("weights", None), options.pop("base_quality", "50")
    if percent not in (None, 100):
        raise OptionError(f"{name} chooses its own base scale", expected="no @PERCENT", found=spec)
    if options:
        raise OptionError(f"{name} has no such option", found=", ".join(sorted(options)))
    try:
        base_quality = QUALITY.check(float(text))
    except ValueError as error:
        raise OptionError("base_quality", expected="0 to 100", found=text) from error
    if both is not None:
        kind, anchor = both
        return [kind(weights=weights, anchor=anchor, base_quality=base_quality)]
    codecs: list[ImageCodec] = []
    if base or name != model:
        codecs.append(VcmBaseCodec(model, weights))
    if name == model:
        codecs.append(VcmCodec(model, weights, base_quality=base_quality))
    return codecs


_WITH_BASE: dict[str, tuple[type[PictureOnBase] | type[CarryingPicture], str]] = {
    **{f"{anchor}+base": (PictureOnBase, anchor) for anchor in CARRIED},
    **{f"{anchor}-carrying": (CarryingPicture, anchor) for anchor in CARRIED if anchor != "jpegxl"},
}
