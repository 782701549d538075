"""Distortion metrics of one decoded picture against its source, as one typed table: :data:`METRICS`. A package adds
its own as an entry point of group ``vcm.metrics``:

    [project.entry-points."vcm.metrics"]
    gmsd = "my_package:GMSD"      # a Metric

Each function takes ``(reference, distorted)``, two uint8 arrays ``(H, W, 3)``, RGB, of the same size, and returns a
float. Functions raise :class:`~vcm.errors.OptionError` for arrays of another kind, :class:`~vcm.errors.ImageError` for
pictures too small (or too flat) for the metric, and :class:`~vcm.errors.MissingDependencyError` when a library is
absent.

JPEG AI's common test conditions name seven metrics: MS-SSIM, IW-SSIM, VIF, FSIM, NLPD, PSNR-HVS-M, VMAF. All are here,
on the components that the JPEG AI reference software reads: luma for all but FSIM, which reads RGB. Luma is BT.709,
full range, with RGB and luma rounded to 10 bits (its default). Where this table and that software differ:

- VIF is piq's ``vif_p``, the pixel-domain form that JPEG AI uses too.
- PSNR-HVS-M: the software's column holds the value *without* masking, which is :func:`psnr_hvs` here; the text of the
  standard names the one with masking, :func:`psnr_hvs_m`.
- NLPD follows the authors' program; the software carries a port with other borders and another up-sampling.
- Pictures under a metric's smallest side are refused; the software pads them with black.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from vcm.errors import ImageError, MissingDependencyError, OptionError
from vcm.eval.metrics.nlpd import nlpd_of_luma
from vcm.eval.metrics.vmaf import find_ffmpeg, vmaf_of_luma
from vcm.plugins import with_plugins

if TYPE_CHECKING:
    import torch

__all__ = [
    "MAX_DB",
    "METRICS",
    "Metric",
    "fsim",
    "iw_ssim",
    "luma_bt709",
    "metric",
    "metrics",
    "ms_ssim",
    "ms_ssim_y",
    "nlpd",
    "psnr",
    "psnr_hvs",
    "psnr_hvs_m",
    "psnr_y",
    "vif",
    "vmaf",
]

Picture = npt.NDArray[np.uint8]

MAX_DB = 100.0
"""Ceiling of every PSNR in dB, and its value for equal pictures, as in the JPEG AI software: means stay finite."""

_KR, _KG, _KB = 0.2126, 0.7152, 0.0722
_TEN_BITS = 1023.0


def luma_bt709(picture: Picture) -> npt.NDArray[np.float64]:
    """BT.709 luma, full range, of uint8 RGB ``(H, W, 3)``: float64 ``(H, W)`` in 0 … 1, in steps of 1/1023."""
    rgb = np.round(picture.astype(np.float64) * (_TEN_BITS / 255.0))
    return np.asarray(np.round(rgb @ np.array([_KR, _KG, _KB])) / _TEN_BITS)


def psnr(reference: Picture, distorted: Picture) -> float:
    """PSNR in dB from one mean squared error over all pixels and all three channels (not a mean of three PSNRs)."""
    _check(reference, distorted, 1)
    return _decibels(float(np.mean((reference.astype(np.float64) - distorted) ** 2)), 255.0)


def psnr_y(reference: Picture, distorted: Picture) -> float:
    """PSNR of BT.709 luma in dB, JPEG AI's ``PSNR_Y``. (BT.601 luma, as in JPEG files, would give another number.)"""
    a, b = _lumas(reference, distorted, 1)
    return _decibels(float(np.mean((a - b) ** 2)), 1.0)


def ms_ssim(reference: Picture, distorted: Picture) -> float:
    """MS-SSIM (Wang, Simoncelli, Bovik, 2003), mean over R, G and B, as papers on learned codecs report it."""
    _check(reference, distorted, 161)
    return _piq("multi_scale_ssim", _rgb_tensor(distorted), _rgb_tensor(reference))


def ms_ssim_y(reference: Picture, distorted: Picture) -> float:
    """MS-SSIM of luma, as JPEG AI reports it."""
    a, b = _lumas(reference, distorted, 161)
    return _piq("multi_scale_ssim", _luma_tensor(b), _luma_tensor(a))


def iw_ssim(reference: Picture, distorted: Picture) -> float:
    """Information-content-weighted SSIM (Wang, Li, 2011) of luma. Raises ImageError on pictures without any texture."""
    a, b = _lumas(reference, distorted, 161)
    # piq weights by the information of its second picture, which must be the reference. In float64: it inverts a
    # covariance matrix, and float32 moves the score by 1e-4.
    try:
        return _piq("information_weighted_ssim", _luma_tensor(b, double=True), _luma_tensor(a, double=True))
    except RuntimeError as error:
        raise ImageError("IW-SSIM is undefined for this picture", expected="some texture", found=error) from error


def vif(reference: Picture, distorted: Picture) -> float:
    """Visual information fidelity, pixel domain (Sheikh, Bovik, 2006), of luma. Over 1 where contrast was raised."""
    a, b = _lumas(reference, distorted, 41)
    return _piq("vif_p", _luma_tensor(b), _luma_tensor(a))


def fsim(reference: Picture, distorted: Picture) -> float:
    """Feature similarity with chroma, FSIMc (Zhang et al., 2011), of RGB."""
    _check(reference, distorted, 32)
    return _piq("fsim", _rgb_tensor(distorted), _rgb_tensor(reference))


def nlpd(reference: Picture, distorted: Picture) -> float:
    """Normalised Laplacian pyramid distance (Laparra et al., 2016) of luma. Lower is better; 0 for equal pictures."""
    a, b = _lumas(reference, distorted, 64)
    return nlpd_of_luma(a, b)


def psnr_hvs(reference: Picture, distorted: Picture) -> float:
    """PSNR-HVS in dB (Egiazarian et al., 2006) of luma: DCT errors weighted by contrast sensitivity, no masking."""
    return _hvs(reference, distorted)[0]


def psnr_hvs_m(reference: Picture, distorted: Picture) -> float:
    """PSNR-HVS-M in dB (Ponomarenko et al., 2007) of luma: :func:`psnr_hvs` with contrast masking."""
    return _hvs(reference, distorted)[1]


def vmaf(reference: Picture, distorted: Picture) -> float:
    """VMAF, model ``vmaf_v0.6.1``, of luma as one still frame, 0 … 100."""
    a, b = _lumas(reference, distorted, 64)
    return vmaf_of_luma(a, b)


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of :data:`METRICS`; call it with ``(reference, distorted)``.

    Attributes:
        name: short name, as in protocols and result columns.
        title: name for axes and tables.
        direction: whether higher or lower is better.
        unit: ``"dB"`` or empty.
        components: what it reads of the picture.
        jpeg_ai: whether it is one of the seven metrics that JPEG AI averages BD-rates over.
        needs: what must be installed: importable modules, or ``"ffmpeg+libvmaf"``.
        min_side: smallest width and height that it is defined for, in pixels.
        function: the metric itself.
    """

    name: str
    title: str
    direction: Literal["higher", "lower"]
    unit: str
    components: Literal["RGB", "Y (BT.709)"]
    jpeg_ai: bool
    needs: tuple[str, ...]
    min_side: int
    function: Callable[[Picture, Picture], float]

    @property
    def higher_is_better(self) -> bool:
        """Whether more is better."""
        return self.direction == "higher"

    def missing(self) -> tuple[str, ...]:
        """What of :attr:`needs` is not installed here; empty when the metric can be computed."""
        return tuple(need for need in self.needs if not _present(need))

    def __call__(self, reference: Picture, distorted: Picture) -> float:
        return self.function(reference, distorted)


METRICS: tuple[Metric, ...] = (
    Metric("psnr", "PSNR (RGB)", "higher", "dB", "RGB", False, (), 1, psnr),
    Metric("psnr_y", "PSNR (Y)", "higher", "dB", "Y (BT.709)", False, (), 1, psnr_y),
    Metric("ms_ssim", "MS-SSIM (RGB)", "higher", "", "RGB", False, ("piq",), 161, ms_ssim),
    Metric("ms_ssim_y", "MS-SSIM (Y)", "higher", "", "Y (BT.709)", True, ("piq",), 161, ms_ssim_y),
    Metric("iw_ssim", "IW-SSIM", "higher", "", "Y (BT.709)", True, ("piq",), 161, iw_ssim),
    Metric("vif", "VIF (pixel domain)", "higher", "", "Y (BT.709)", True, ("piq",), 41, vif),
    Metric("fsim", "FSIMc", "higher", "", "RGB", True, ("piq",), 32, fsim),
    Metric("nlpd", "NLPD", "lower", "", "Y (BT.709)", True, ("scipy",), 64, nlpd),
    Metric("psnr_hvs", "PSNR-HVS", "higher", "dB", "Y (BT.709)", False, ("psnr_hvsm",), 1, psnr_hvs),
    Metric("psnr_hvs_m", "PSNR-HVS-M", "higher", "dB", "Y (BT.709)", True, ("psnr_hvsm",), 1, psnr_hvs_m),
    Metric("vmaf", "VMAF", "higher", "", "Y (BT.709)", True, ("ffmpeg+libvmaf",), 64, vmaf),
)
"""Our metrics, in the order of reports. :func:`metrics` also knows those of other packages."""


@cache
def metrics() -> dict[str, Metric]:
    """All metrics by name: ours, then those that installed packages add as entry points of group ``vcm.metrics``.

    Raises:
        OptionError: an entry point is no metric or cannot be loaded, or two metrics have one name.
    """
    return with_plugins(METRICS, "vcm.metrics", Metric, OptionError, "metric")


def metric(name: str) -> Metric:
    """The metric of that name.

    Raises:
        OptionError: there is none.
    """
    row = metrics().get(name)
    if row is None:
        raise OptionError("no such metric", expected=", ".join(metrics()), found=name)
    return row


def _present(need: str) -> bool:
    return find_ffmpeg() is not None if need == "ffmpeg+libvmaf" else importlib.util.find_spec(need) is not None


def _check(reference: Picture, distorted: Picture, min_side: int) -> None:
    for picture in (reference, distorted):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise OptionError(
                "a metric needs RGB pictures", expected="uint8 (H, W, 3)", found=f"{picture.dtype} {picture.shape}"
            )
    if reference.shape != distorted.shape:
        raise OptionError("a metric needs pictures of one size", expected=reference.shape, found=distorted.shape)
    if min(reference.shape[:2]) < min_side:
        raise ImageError(
            "picture too small for this metric", expected=f"sides >= {min_side}", found=reference.shape[1::-1]
        )


def _lumas(
    reference: Picture, distorted: Picture, min_side: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    _check(reference, distorted, min_side)
    return luma_bt709(reference), luma_bt709(distorted)


def _decibels(mean_squared_error: float, peak: float) -> float:
    if mean_squared_error == 0.0:
        return MAX_DB
    return min(float(10.0 * np.log10(peak**2 / mean_squared_error)), MAX_DB)


def _rgb_tensor(picture: Picture) -> torch.Tensor:
    import torch

    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 255.0


def _luma_tensor(plane: npt.NDArray[np.float64], *, double: bool = False) -> torch.Tensor:
    import torch

    return torch.from_numpy(plane)[None, None].to(torch.float64 if double else torch.float32)


def _piq(name: str, x: torch.Tensor, y: torch.Tensor) -> float:
    try:
        import piq
    except ImportError as error:
        raise MissingDependencyError("piq is not installed: pip install 'vcm[eval]'") from error
    import torch

    with torch.inference_mode():
        value: Any = getattr(piq, name)(x, y, data_range=1.0)
    return float(value)


def _hvs(reference: Picture, distorted: Picture) -> tuple[float, float]:
    a, b = _lumas(reference, distorted, 1)
    # The package prints to standard output when it is first imported; results may be going there.
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            from psnr_hvsm import hvs_hvsm_mse
    except ImportError as error:
        raise MissingDependencyError("psnr_hvsm is not installed: pip install 'vcm[eval]'") from error
    # It works on whole 8x8 blocks; the JPEG AI software repeats the last row and column as well.
    pad = ((0, -a.shape[0] % 8), (0, -a.shape[1] % 8))
    # Its masking of a flat block computes 0/0 and then discards it.
    with np.errstate(invalid="ignore"):
        plain, masked = hvs_hvsm_mse(np.pad(a, pad, mode="edge"), np.pad(b, pad, mode="edge"))
    return _decibels(float(plain), 1.0), _decibels(float(masked), 1.0)
