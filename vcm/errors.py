"""Every failure of VCM, one class each, all under :class:`VcmError`.

An error carries what was expected and what was found, and its text is one line. The command line prints that line and
exits with :attr:`VcmError.exit_status`: 2 for a wrong call, 1 for wrong data.
"""

from __future__ import annotations

__all__ = [
    "AnnotationError",
    "ChecksumError",
    "CodecFamilyError",
    "ConfigError",
    "CurveError",
    "EntropyError",
    "FingerprintError",
    "FormatError",
    "HeadError",
    "ImageError",
    "InputError",
    "LatentError",
    "LayerError",
    "LimitError",
    "MagicError",
    "MandatoryChunkError",
    "MissingDependencyError",
    "ModelNotFoundError",
    "OptionError",
    "OtherPictureError",
    "OutputError",
    "StaleBaseError",
    "TrainingError",
    "TruncatedError",
    "TrunkError",
    "UsageError",
    "VcmError",
    "VersionError",
    "WeightsError",
    "reason",
]


class VcmError(Exception):
    """Base of all errors of this package.

    Attributes:
        what: what went wrong, a short clause without a full stop.
        expected: what would have been right, or ``None`` where the clause says it.
        found: what was there instead.
    """

    exit_status = 1

    def __init__(self, what: str, *, expected: object = None, found: object = None) -> None:
        self.what, self.expected, self.found = what, expected, found
        parts = [what]
        if expected is not None:
            parts.append(f"expected {expected}")
        if found is not None:
            parts.append(f"found {found}")
        super().__init__(": ".join([parts[0], ", ".join(parts[1:])]) if len(parts) > 1 else what)


class UsageError(VcmError):
    """The call itself is wrong: an option, a combination of options, an argument."""

    exit_status = 2


class OptionError(UsageError):
    """An option or argument is out of its range or of the wrong kind."""


class ConfigError(UsageError):
    """A configuration file does not validate (unknown key, wrong type, value out of range)."""


class CodecFamilyError(UsageError):
    """Codec families of installed packages claim one name or codec id, or one cannot be loaded."""


class MissingDependencyError(UsageError):
    """An optional package is needed for this and is not installed."""


class ModelNotFoundError(UsageError):
    """No shipped model of that name and no file at that path."""


class FormatError(VcmError):
    """The bytes are not a well-formed VCM file.

    Attributes:
        whole_layers: names of the layers that end before the damage, and can be read.
    """

    whole_layers: tuple[str, ...] = ()


class AnnotationError(FormatError):
    """A ground-truth file or object does not validate: a wrong field, an id that nothing has or that is there twice."""


class MagicError(FormatError):
    """The first bytes are not those of a VCM file."""


class VersionError(FormatError):
    """The file's format version is not one that this reader knows."""


class TruncatedError(FormatError):
    """The bytes end inside a header or chunk. ``whole_layers`` names the layers that are complete."""

    def __init__(
        self, what: str, *, expected: object = None, found: object = None, whole_layers: tuple[str, ...] = ()
    ) -> None:
        super().__init__(what, expected=expected, found=found)
        self.whole_layers = whole_layers


class ChecksumError(FormatError):
    """A stored checksum does not match the computed one."""


class LimitError(FormatError):
    """A size in a file or picture is over a limit that is checked before memory is taken."""


class MandatoryChunkError(FormatError):
    """A chunk that must be understood is of an unknown kind."""


class LayerError(VcmError):
    """A layer that was asked for is not in the file, is there twice, or is out of order."""


class EntropyError(FormatError):
    """An entropy-coded stream does not decode to a consistent end state, or a symbol cannot be coded."""


class LatentError(VcmError):
    """The encoder's networks gave latents that no file can hold: not finite, as weights out of their range give."""


class StaleBaseError(VcmError):
    """The base that a picture carries is not of this picture: it was edited after the base was attached."""


class FingerprintError(VcmError):
    """A layer was written by weights that are not loaded."""


class WeightsError(VcmError):
    """A weights file is missing a tensor, has one of the wrong shape or type, or fails its self-test."""


class TrunkError(WeightsError):
    """A pixel twin was trained on another trunk than the one that was found."""


class ImageError(VcmError):
    """A picture cannot be read, or has a size or mode that cannot be coded."""


class OtherPictureError(ImageError):
    """A picture is not the one that a file's base was coded from."""


class InputError(VcmError):
    """An input file cannot be read: it is missing, a folder, or not permitted."""


class OutputError(VcmError):
    """An output cannot be written."""


class TrainingError(VcmError):
    """A training run cannot go on: a loss or a gradient is not finite."""


class HeadError(UsageError):
    """No head of that name, or the name is taken."""


class CurveError(VcmError):
    """Two rate–accuracy curves cannot be compared: too few Pareto points, no common range, a point not a number."""


def reason(error: BaseException) -> str:
    """The text of an error of another library, on one line and never empty; for ``found``."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
