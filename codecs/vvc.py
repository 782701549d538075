"""VVC (H.266) intra through an external encoder and decoder: vvenc and vvdec, or the VTM reference software.

The file is the encoder's own Annex B stream. 4:2:0 needs even sides: a picture with an odd side is padded by one, and
one byte before the stream says so (0x81 … 0x83, where a stream begins with 0x00). Even pictures cost no extra byte.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from vcm.codecs.protocol import CodecInfo, Image, QualityRange, check_image
from vcm.codecs.yuv import from_y4m, rgb_to_yuv420, to_y4m, yuv420_to_rgb
from vcm.errors import ImageError, MissingDependencyError, OptionError

__all__ = ["PRESETS", "VvcCodec"]

PRESETS = ("faster", "fast", "medium", "slow", "slower")
"""vvenc's presets."""

_QP = QualityRange(0, 63, unit="QP", ascending=False)
_ODD = 0x80
_TIMEOUT = 3600.0


@dataclass(frozen=True)
class VvcCodec:
    """VVC intra of one picture. ``quality`` is the QP, 0 … 63 (larger: smaller file).

    Attributes:
        encoder, decoder: programs, by name on PATH or by path: ``vvencapp`` and ``vvdecapp``, or VTM's
            ``EncoderAppStatic`` and ``DecoderAppStatic`` (any name that begins so).
        preset: vvenc's preset; not for VTM.
        bit_depth: of the coded picture, 8 or 10.
        perceptual: vvenc's perceptual QP adaptation; off, because it lowers PSNR and a QP should mean one quantiser.
        config: VTM's configuration file (``encoder_intra_vtm.cfg``); only and always for VTM.

    Raises:
        MissingDependencyError: a program is not there.
        OptionError: an option is out of its range.
    """

    encoder: str = "vvencapp"
    decoder: str = "vvdecapp"
    preset: str = "faster"
    bit_depth: int = 10
    perceptual: bool = False
    config: str | None = None
    name: str = "vvc"
    quality_range: QualityRange = _QP

    def __post_init__(self) -> None:
        if self.bit_depth not in (8, 10):
            raise OptionError("VVC bit depth", expected="8 or 10", found=self.bit_depth)
        if self.preset not in PRESETS:
            raise OptionError("VVC preset", expected=", ".join(PRESETS), found=self.preset)
        for program in (self.encoder, self.decoder):
            _find(program)
        if self._vtm != (self.config is not None):
            raise OptionError("VTM needs its configuration file, and only VTM has one", found=f"config={self.config}")
        if self.config is not None and not Path(self.config).is_file():
            raise OptionError("no such VTM configuration file", found=self.config)

    @property
    def _vtm(self) -> bool:
        return Path(self.encoder).name.lower().startswith("encoderapp")

    def compress(self, image: Image, quality: float) -> bytes:
        """See :meth:`vcm.codecs.protocol.ImageCodec.compress`."""
        image = check_image(image)
        qp = int(self.quality_range.check(quality))
        planes = rgb_to_yuv420(image, self.bit_depth)
        height, width = image.shape[:2]
        with tempfile.TemporaryDirectory(prefix="vcm-vvc-") as folder:
            source, stream = Path(folder, "in.y4m"), Path(folder, "out.266")
            source.write_bytes(to_y4m(planes))
            size = (planes.y.shape[1], planes.y.shape[0])
            _run([_find(self.encoder), *self._encoder_options(source, stream, size, qp)], "VVC encoder")
            data = _read(stream, "VVC encoder")
        odd = width % 2 | (height % 2) << 1
        return bytes([_ODD | odd]) + data if odd else data

    def decompress(self, data: bytes) -> Image:
        """See :meth:`vcm.codecs.protocol.ImageCodec.decompress`."""
        odd = 0
        if data[:1] and data[0] & _ODD:
            odd, data = data[0] & 3, data[1:]
        if data[:3] not in (b"\0\0\0", b"\0\0\1"):
            raise ImageError("not a VVC stream", expected="an Annex B start code", found=data[:4])
        with tempfile.TemporaryDirectory(prefix="vcm-vvc-") as folder:
            stream, out = Path(folder, "in.266"), Path(folder, "out.y4m")
            stream.write_bytes(data)
            options = ["-b", str(stream), "-o", str(out)] + (["-d", "0"] if self._vtm else ["-t", "1"])
            _run([_find(self.decoder), *options], "VVC decoder")
            planes = from_y4m(_read(out, "VVC decoder"))
        height, width = planes.y.shape
        return yuv420_to_rgb(planes, width - (odd & 1), height - (odd >> 1))

    def describe(self) -> CodecInfo:
        """The programs' versions, preset, bit depth and colour conversion."""
        settings: dict[str, str | int | float | bool] = {
            "bit_depth": self.bit_depth,
            "colour": "BT.709 full range 4:2:0",
            "perceptual": self.perceptual,
            "preset": Path(self.config).name if self.config is not None else self.preset,
        }
        version = f"{_version(_find(self.encoder))}; {_version(_find(self.decoder))}"
        return CodecInfo(self.name, version, tuple(sorted(settings.items())))

    def _encoder_options(self, source: Path, stream: Path, size: tuple[int, int], qp: int) -> list[str]:
        files = ["-i", str(source), "-q", str(qp)]
        if self.config is not None:
            width, height = size
            depth = [f"--InputBitDepth={self.bit_depth}", f"--InternalBitDepth={self.bit_depth}"]
            return [
                "-c", self.config, *files, "-b", str(stream), "-wdt", str(width), "-hgt", str(height), "-f", "1",
                "-fr", "1", "--InputChromaFormat=420", "--ConformanceWindowMode=1", "--Level=6.2", *depth,
            ]  # fmt: skip
        return [
            *files, "-o", str(stream), "--preset", self.preset, "--qpa", str(int(self.perceptual)), "--threads", "1",
            "--frames", "1", "--intraperiod", "1", "--internal-bitdepth", str(self.bit_depth), "--verbosity", "1",
        ]  # fmt: skip


def _find(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        expected = "vvencapp and vvdecapp (or VTM's programs) on PATH, or encoder= and decoder= with their paths"
        raise MissingDependencyError("VVC needs external programs", expected=expected, found=f"no {program}")
    return found


def _run(command: list[str], what: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, timeout=_TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ImageError(f"{what} did not run", found=str(error)) from error
    text = (done.stdout + done.stderr).decode("utf-8", "replace").strip()
    if done.returncode != 0:
        lines = [line for line in text.splitlines() if line.strip()]
        raise ImageError(
            f"{what} failed", expected="exit status 0", found=f"{done.returncode}: {lines[-1] if lines else ''}"
        )
    return text


def _read(path: Path, what: str) -> bytes:
    if not path.is_file() or path.stat().st_size == 0:
        raise ImageError(f"{what} wrote nothing")
    return path.read_bytes()


@cache
def _version(program: str) -> str:
    """The first line with a version number that the program prints about itself."""
    for option in ("--version", "--help"):
        done = subprocess.run([program, option], capture_output=True, timeout=60, check=False)
        for line in (done.stdout + done.stderr).decode("utf-8", "replace").splitlines():
            if re.search(r"\d+\.\d+", line):
                return " ".join(line.split())[:120]
    return f"{Path(program).name}, version unknown"
