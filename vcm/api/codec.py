"""A loaded model at work on pictures and files."""

from __future__ import annotations

import inspect
import os
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from PIL import Image

from vcm.api.arguments import base_scale_of, check_target, kept_of, quality_index, whole_number
from vcm.api.cost import Cost, count_costs
from vcm.api.decoding import PictureRows, Region, check_base, decode, decode_rows
from vcm.api.engines import engine_of, loaded_for
from vcm.api.many import Outcome, run_many
from vcm.api.rate import add_picture_layer, search_quality
from vcm.api.sources import StreamSource, base_of, items_of, one_or_many, whole_of
from vcm.bitstream import MAX_QUALITY, BaseLayer, Bitstream, Metadata, SourceKind
from vcm.codecs.picture_layer import PictureName, picture_format_of
from vcm.codecs.scalable.likeness import MOST_DISTANCE, base_distance
from vcm.codecs.scalable.model import BaseLatents, default_base_scale, picture_array
from vcm.errors import FingerprintError, HeadError, ImageError, LayerError, OptionError, OtherPictureError
from vcm.io.colours import ProfileUse
from vcm.io.pictures import SourceImage, load_image
from vcm.limits import DEFAULT_BYTES, DEFAULT_PIXELS, Limits
from vcm.runtime.networks import Array
from vcm.structures import DEFAULT_SCORE, Classification, Detections, Latents, LatentSpec, Result
from vcm.tasks.postprocessing import MAX_DETECTIONS, NMS_IOU
from vcm.tasks.protocol import Head, OtherBase

if TYPE_CHECKING:
    import torch

    from vcm.api.sources import Source
    from vcm.io.pictures import ImageSource
    from vcm.weights.codec_file import LoadedModel
    from vcm.weights.onnx_file import OnnxCodec

__all__ = ["Codec"]

Task = Head | Callable[[Latents], Any]


class Codec:
    """A loaded model. Immutable but for :meth:`add_head`, and safe to share between threads.

    A codec pickles as the path of its weights and what was chosen beside it, so that worker processes and other
    programs that have that file load it themselves; heads that were added go with it, those that are no files by their
    own pickling.

    Every method that takes one picture or file takes a list, tuple or batch as well, and then gives a list. A batch of
    pictures is a tensor (N, C, H, W), or an array (N, H, W, C) or (N, C, H, W).

    Args:
        loaded: networks from :func:`vcm.weights.codec_file.load_weights`, which torch runs and which are not changed,
            or from :func:`vcm.weights.onnx_file.load_onnx`, which onnxruntime runs.
        device: where torch runs them.

    Attributes:
        name: of the model.
        backend: ``torch`` or ``onnx``.
        device: where networks run, by torch's name: ``cpu``, ``cuda:0`` …
        fingerprint: of the base layers that it writes and reads, 16 hexadecimal digits.
        fingerprint_enhancement: likewise, of its enhancement layers.

    Raises:
        OptionError: torch knows no such device, or cannot use it.
    """

    def __init__(self, loaded: LoadedModel | OnnxCodec, device: str | torch.device = "cpu") -> None:
        self._loaded = loaded
        self._engine = engine_of(loaded, device)
        self._model = self._engine.model
        self.backend, self.device = self._engine.name, self._engine.device
        self.name = loaded.name
        self.fingerprint = self._model.base_fingerprint.hex()
        self.fingerprint_enhancement = self._model.picture_fingerprint.hex()
        self._heads: dict[str, Task] = {"detect": self._engine.detect, "classify": self._engine.classify}
        self._added: dict[str, tuple[Task | Path, bool]] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Codec {self.name}, {self.backend} on {self.device}>"

    def __reduce__(self) -> tuple[Any, ...]:
        prints = self.fingerprint, self.fingerprint_enhancement
        path = self._loaded.path.absolute()
        how = self._engine.threads, self._loaded.precision
        return _restored, (path, self.backend, self.device, how, prints, self._added)

    def to(self, device: str | torch.device) -> Codec:
        """The codec on another device, with the heads that were added; itself where it is there already.

        Heads that are no files are called as they are: their owner moves them. One that onnxruntime runs is run by
        torch on anything else than a CPU.

        Raises:
            OptionError: there is no such device, or torch cannot use it.
            WeightsError: the weights were read for onnxruntime, and their file is not there any more.
            MissingDependencyError: torch is not installed.
        """
        if str(device) == self.device:
            return self
        loaded = self._loaded if self.backend == "torch" else loaded_for(self._loaded.path, "torch")
        return Codec(loaded, device)._with_heads(self._added)

    def _with_heads(self, added: dict[str, tuple[Task | Path, bool]]) -> Codec:
        for name, (head, allow_other_base) in added.items():
            self.add_head(name, head, allow_other_base=allow_other_base)
        return self

    # -- writing ------------------------------------------------------------------------------------------------------

    @one_or_many
    def encode(
        self,
        image: ImageSource,
        *,
        quality: float = 50,
        base_quality: float = 50,
        base_only: bool = False,
        target_bpp: float | None = None,
        base_scale: float | None = None,
        picture: PictureName | None = None,
        keep: Collection[str] | None = None,
        bgr: bool = False,
        max_pixels: int = DEFAULT_PIXELS,
        max_bytes: int = DEFAULT_BYTES,
    ) -> Bitstream:
        """Encode a picture.

        Args:
            image: what :func:`vcm.io.pictures.load_image` takes: path, bytes, binary file object, PIL image, uint8 HWC
                array or CHW tensor, RGB; or a list or batch of these.
            quality: of the enhancement layer, 0 … 100.
            base_quality: of the base layer, 0 … 100.
            base_only: write the base layer only; the picture path does not run.
            target_bpp: bits per source pixel of the whole file, metadata included; replaces the quality of the
                enhancement layer, of the base with ``base_only``. Met within 3 %, or a :class:`RateWarning` reports the
                nearest reachable rate.
            base_scale: eighths of the picture's size that the base is coded at: 1, 2 … 16, or a part of one, to the
                nearest 1/128. By default such that its longest side is near 480 pixels, and at most 8, which is the
                picture's own size. More finds smaller objects, for more bytes; the base's picture may have 2**23
                pixels.
            picture: code the picture by a standard codec in the place of our enhancement: ``avif``, ``webp``, ``jxl``
                or ``jpeg``, whose own quality ``quality`` then is. Decoding it needs that codec, and no weights.
            keep: what to keep beside the pixels: any of ``metadata`` (EXIF without position and orientation), ``gps``
                (the position) and ``icc`` (the colour profile; without it the pixels are converted to sRGB). By default
                nothing for a base alone, whose metadata would be longer than itself; else ``metadata`` and a profile
                whose colours are not sRGB's.
            bgr: the array or tensor has its channels in OpenCV's order.
            max_pixels: most pixels of the picture.
            max_bytes: most bytes of its file.

        Raises:
            ImageError: the picture cannot be read or is smaller than 16 px or too large.
            OptionError: an option is out of range, or ``picture`` goes with ``base_only``.
            MissingDependencyError: the codec of ``picture`` is not installed.
        """
        format = None if picture is None else picture_format_of(picture)
        if base_only and format is not None:
            raise OptionError("base_only and picture exclude each other", expected="one of them", found=picture)
        index, base_index = quality_index("quality", quality), quality_index("base_quality", base_quality)
        check_target(target_bpp)
        asked = None if base_scale is None else base_scale_of(base_scale)
        kept = kept_of(keep, base_only)
        source = load_image(
            image, keep_gps=kept.gps, profile=kept.profile, bgr=bgr, max_pixels=max_pixels, max_bytes=max_bytes
        )
        metadata = Metadata(exif=source.exif if kept.exif else None, icc=source.icc)
        scale = asked or default_base_scale(source.width, source.height)
        x = picture_array(source.pixels)
        y = self._model.analyse_base(x, scale)

        def base_file(at: int) -> tuple[Bitstream, BaseLatents]:
            base, latents = self._model.encode_base(y, (source.width, source.height), scale, at)
            return _file(source, base, metadata), latents

        if base_only and target_bpp is not None:
            return search_quality(lambda at: base_file(at)[0], target_bpp, lambda file: file.bpp, 4)
        file, latents = base_file(base_index)
        if format is not None:
            return add_picture_layer(file, source.pixels, format, index, target_bpp)
        return file if base_only else self._add_picture(file, x, latents, index, target_bpp)

    @overload
    def enhance(
        self,
        source: list[StreamSource],
        image: list[ImageSource],
        *,
        quality: float = ...,
        target_bpp: float | None = ...,
        allow_other_picture: bool = ...,
        picture: PictureName | None = ...,
        max_pixels: int = ...,
        max_bytes: int = ...,
    ) -> list[Bitstream]: ...
    @overload
    def enhance(
        self,
        source: StreamSource,
        image: ImageSource,
        *,
        quality: float = ...,
        target_bpp: float | None = ...,
        allow_other_picture: bool = ...,
        picture: PictureName | None = ...,
        max_pixels: int = ...,
        max_bytes: int = ...,
    ) -> Bitstream: ...
    def enhance(
        self,
        source: StreamSource | list[StreamSource],
        image: ImageSource | list[ImageSource],
        *,
        quality: float = 50,
        target_bpp: float | None = None,
        allow_other_picture: bool = False,
        picture: PictureName | None = None,
        max_pixels: int = DEFAULT_PIXELS,
        max_bytes: int = DEFAULT_BYTES,
    ) -> Bitstream | list[Bitstream]:
        """Append the enhancement layer to a base-only file.

        Args:
            source: the file, or a list.
            image: the picture that it was encoded from, or a list or batch of as many.
            quality: of the enhancement layer, 0 … 100.
            target_bpp: of the whole file.
            allow_other_picture: do not compare the picture's own base with the file's. It must have its size all the
                same.
            picture: as of :meth:`encode`.
            max_pixels: most pixels of the picture.
            max_bytes: most bytes of its file, and of the one that is enhanced.

        Raises:
            LayerError: the file has an enhancement or picture layer already.
            OtherPictureError: the picture's base is not that of the file. A photograph that was edited or saved again
                passes, and so does any where the base has under 100 latent positions.
            ImageError: the picture has another size than the file says.
            FingerprintError: the base was written by other weights.
            OptionError: an option is out of range, or the lists differ in length.
        """
        format = None if picture is None else picture_format_of(picture)
        files, images = items_of(source), items_of(image)
        if files is not None or images is not None:
            if files is None or images is None or len(files) != len(images):
                raise OptionError("files and pictures come as two lists of one length")
            pairs = zip(files, images, strict=True)
            more: dict[str, Any] = {"quality": quality, "target_bpp": target_bpp, "picture": picture}
            more |= {"allow_other_picture": allow_other_picture, "max_pixels": max_pixels, "max_bytes": max_bytes}
            return [self.enhance(one, its_picture, **more) for one, its_picture in pairs]
        index = quality_index("quality", quality)
        check_target(target_bpp)
        file = whole_of(source, Limits(max_pixels, max_bytes))  # type: ignore[arg-type]  # a list was dealt with above
        if len(file.layer_names) > 1:
            what = "the file has an enhancement layer already"
            raise LayerError(what, expected="a base-only file", found=", ".join(file.layer_names))
        # As when the base was encoded: sRGB, unless the file has a profile for other colours.
        profile: ProfileUse = "apply" if file.metadata.icc is None else "keep"
        loaded = load_image(image, profile=profile, max_pixels=max_pixels, max_bytes=max_bytes)  # type: ignore[arg-type]
        found, expected = f"{loaded.width}x{loaded.height}", f"{file.width}x{file.height}"
        if found != expected:
            raise ImageError("the picture is not the one that the file was made from", expected=expected, found=found)
        x, latents = picture_array(loaded.pixels), self._base(file)
        if not allow_other_picture:
            self._check_picture(x, file, latents)
        if format is not None:
            return add_picture_layer(file, loaded.pixels, format, index, target_bpp)
        return self._add_picture(file, x, latents, index, target_bpp)

    def _check_picture(self, x: Array, file: Bitstream, latents: BaseLatents) -> None:
        """Raises :class:`OtherPictureError` unless the base of picture ``x`` is like the file's."""
        y = self._model.analyse_base(x, file.base_scale)
        own = self._model.encode_base(y, latents.source_size, file.base_scale, latents.quality_index)[1]
        distance = base_distance(own.fixed, latents.fixed)
        if distance is not None and distance > MOST_DISTANCE:
            what = "another picture than the one that the file was made from"
            expected = f"a base at a distance of at most {MOST_DISTANCE}"
            raise OtherPictureError(what, expected=expected, found=f"{distance:.2f}")

    def _add_picture(
        self, file: Bitstream, x: Array, latents: BaseLatents, quality: int, target: float | None
    ) -> Bitstream:
        """``file`` with the enhancement of picture ``x``, at a quality index or at the one that meets the target."""
        y = self._model.analyse_picture(x)

        def at(index: int) -> Bitstream:
            return file.with_layer(self._model.encode_picture(y, latents, index))

        return at(quality) if target is None else search_quality(at, target, lambda file: file.bpp, 5)

    # -- reading ------------------------------------------------------------------------------------------------------

    def _base(self, file: Bitstream) -> BaseLatents:
        return self._model.decode_base(file.coded_base)

    def _base_file(self, limits: Limits, picture: ImageSource) -> Bitstream:
        return self.encode(picture, base_only=True, max_pixels=limits.pixels, max_bytes=limits.bytes)

    def _latents(self, source: Source, limits: Limits, head: object = None) -> tuple[Latents, int]:
        """Latents in the form that ``head`` reads, and the bytes that were read for them."""
        file, count = base_of(source, limits, partial(self._base_file, limits))
        check_base(file.header, limits)
        base = self._base(file)
        y_hat = self._engine.y_hat(base.y_hat(), head)
        quality = base.quality_index * 100 / MAX_QUALITY
        return Latents(y_hat, self.spec, base.coded_size, base.source_size, quality), count

    @one_or_many
    def latents(self, source: Source, *, max_pixels: int = DEFAULT_PIXELS, max_bytes: int = DEFAULT_BYTES) -> Latents:
        """Base latents of a file; only its base prefix is read. A tensor has them, an array where torch is missing.

        Args:
            source: path, bytes, binary file object or :class:`Bitstream`; a picture, as of :meth:`encode`, whose
                base is then made at the usual quality; or a list of these.
            max_pixels: most pixels of the picture that the base was coded from; of a picture, its own.
            max_bytes: most bytes of the base prefix; of a picture, of its file.

        Raises:
            FormatError: the file is damaged, or neither a VCM file nor a picture.
            ImageError: the picture cannot be read or is smaller than 16 px or too large.
            FingerprintError: the base was written by other weights.
        """
        return self._latents(source, Limits(max_pixels, max_bytes))[0]

    @one_or_many
    def detect(
        self,
        source: Source,
        *,
        score: float = DEFAULT_SCORE,
        iou: float = NMS_IOU,
        agnostic: bool = False,
        max_det: int = MAX_DETECTIONS,
        classes: Iterable[str | int] | None = None,
        max_pixels: int = DEFAULT_PIXELS,
        max_bytes: int = DEFAULT_BYTES,
    ) -> Detections:
        """Objects in a file's picture, from its base layer; pixels are not decoded. Arrays are RGB.

        Args:
            source: path, bytes, binary file object or :class:`Bitstream`; a picture, as of :meth:`encode`, whose
                base is then made at the usual quality; or a list of these.
            score: least score kept, 0 … 1. Average precision asks for less than the default, 0.001.
            iou: overlap above which the weaker of two boxes of one class is dropped, 0 … 1; between two large boxes 0.3
                is enough.
            agnostic: drop the weaker of two boxes of different classes as well.
            max_det: most boxes, 1 … 1000.
            classes: names or indexes of the classes that are wanted; all by default.
            max_pixels: most pixels of the picture that the base was coded from; of a picture, its own.
            max_bytes: most bytes of the base prefix; of a picture, of its file.

        Raises:
            FormatError, ImageError, FingerprintError: as for :meth:`latents`.
            OptionError: an option is out of range, or there is no such class.
        """
        latents, count = self._latents(source, Limits(max_pixels, max_bytes), self._engine.detect)
        found = self._engine.detect(latents, score, iou, agnostic=agnostic, max_det=max_det, classes=classes)
        return replace(found, bytes_read=count)

    @one_or_many
    def classify(
        self, source: Source, *, max_pixels: int = DEFAULT_PIXELS, max_bytes: int = DEFAULT_BYTES
    ) -> Classification:
        """Class probabilities of a file's picture, from its base layer.

        Args:
            source: path, bytes, binary file object or :class:`Bitstream`; a picture, as of :meth:`encode`, whose
                base is then made at the usual quality; or a list of these.
            max_pixels: most pixels of the picture that the base was coded from; of a picture, its own.
            max_bytes: most bytes of the base prefix; of a picture, of its file.

        Raises:
            FormatError, ImageError, FingerprintError: as for :meth:`latents`.
        """
        latents, count = self._latents(source, Limits(max_pixels, max_bytes), self._engine.classify)
        return replace(self._engine.classify(latents), bytes_read=count)

    @one_or_many
    def decode(
        self,
        source: StreamSource,
        *,
        layers: int | None = None,
        region: Region | None = None,
        max_pixels: int = DEFAULT_PIXELS,
        max_bytes: int = DEFAULT_BYTES,
    ) -> Image.Image:
        """The picture or a part of it, upright, for a person.

        Args:
            source: path, bytes, binary file object or :class:`Bitstream`; or a list of these.
            layers: how many layers to use, the base being the first; all by default. The base alone gives a rough
                preview (``picture.info["vcm_preview"]`` is true), of at most 2,097,152 pixels. With ``layers=1`` no
                more than the base prefix is read, which holds no metadata.
            region: ``(x0, y0, x1, y1)`` in pixels, ends exclusive: the crop of the picture. No more tiles are read and
                decoded than it needs, if the source can seek; of a file object others must not move it meanwhile.
            max_pixels: most pixels of the picture or region; of a preview, of the picture that the base was coded from.
            max_bytes: most bytes of the file; of a preview, of the base prefix.

        Raises:
            FormatError: the file is damaged or no VCM file.
            FingerprintError: a layer was written by other weights.
            LayerError: the file has fewer layers.
            LimitError: more pixels or bytes than was said, or a base or tiles that would take too much memory.
            OptionError: ``layers`` is out of range, ``region`` is empty or reaches out of the picture.
        """
        return decode(self._model, source, layers, region, Limits(max_pixels, max_bytes))

    def decode_rows(
        self, source: StreamSource, *, max_pixels: int = DEFAULT_PIXELS, max_bytes: int = DEFAULT_BYTES
    ) -> PictureRows:
        """The picture from the top down, for those that do not fit into memory: a band of rows at a time.

        Args:
            source: path, bytes, binary file object or :class:`Bitstream`.
            max_pixels, max_bytes: of the picture and of the file.

        Raises:
            FormatError, FingerprintError, LimitError: as for :meth:`decode`; of a damaged stream while it is iterated.
            LayerError: the file has no enhancement.
        """
        return decode_rows(self._model, source, Limits(max_pixels, max_bytes))

    # -- many at once --------------------------------------------------------------------------------------------------

    def encode_many(
        self, sources: Iterable[ImageSource], *, jobs: int | None = None, **options: Any
    ) -> Iterator[Outcome[ImageSource, Bitstream]]:
        """:meth:`encode` of many pictures, several at once; outcomes come in order, each when it is its turn.

        Args:
            sources: pictures, one at a time: not a list of lists. Taken as they are needed.
            jobs: how many at once. Under onnxruntime each has one thread, and by default there is one for each core
                that the process may use, at most 8; torch has threads of its own, so 1 by default.
            options: those of :meth:`encode`.

        Returns:
            an iterator of :class:`Outcome`: the file, or the :class:`VcmError` of that picture alone.

        Raises:
            OptionError: ``jobs`` is below 1.
            TypeError: :meth:`encode` has no such option.
        """
        return self._many("encode", sources, jobs, options)

    def detect_many(
        self, sources: Iterable[Source], *, jobs: int | None = None, **options: Any
    ) -> Iterator[Outcome[Source, Detections]]:
        """:meth:`detect` in many files, several at once; arguments and errors as of :meth:`encode_many`."""
        return self._many("detect", sources, jobs, options)

    def decode_many(
        self, sources: Iterable[StreamSource], *, jobs: int | None = None, **options: Any
    ) -> Iterator[Outcome[StreamSource, Image.Image]]:
        """:meth:`decode` of many files, several at once; arguments and errors as of :meth:`encode_many`."""
        return self._many("decode", sources, jobs, options)

    def _many(
        self, method: str, sources: Iterable[Any], jobs: int | None, options: dict[str, Any]
    ) -> Iterator[Outcome[Any, Any]]:
        engine, count = self._engine.side_by_side(None if jobs is None else whole_number("jobs", jobs, 1, None))
        one = self
        if engine is not self._engine:
            one = object.__new__(Codec)  # no copy.copy, which would load it again, as unpickling does
            vars(one).update(vars(self), _engine=engine, _model=engine.model)
        work = getattr(one, method)
        inspect.signature(work).bind(None, **options)  # now, not at the first picture
        return run_many(lambda source: work(source, **options), sources, count)

    # -- heads --------------------------------------------------------------------------------------------------------

    def add_head(self, name: str, head: Task | str | os.PathLike[str], *, allow_other_base: bool = False) -> Codec:
        """Register a task of your own: ``head(latents)`` is what :meth:`run` calls. Returns the codec.

        Args:
            name: for :meth:`run` and :meth:`head`.
            head: a :class:`vcm.tasks.protocol.Head`, any other callable, or a head's file. A keypoint head of a file
                finds its boxes with ``detect``.
            allow_other_base: take a head that was trained on another base layer. Its channels and stride must fit all
                the same.

        Raises:
            HeadError: the name is taken, ``head`` cannot be called, or reads latents of another kind.
            FingerprintError: it was trained on another base layer.
            WeightsError: the file is no head's, or is inconsistent.
            MissingDependencyError: the head is of another package's kind, which needs torch, and torch is missing.
        """
        task = self._engine.head(Path(head)) if isinstance(head, str | os.PathLike) else head
        if not callable(task):
            raise HeadError("a head is called with latents", expected="a callable", found=type(task).__name__)
        if isinstance(task, Head):
            wanted = task.spec.latents
            replace(wanted, fingerprint="" if allow_other_base else wanted.fingerprint).check(self.spec)
            task = OtherBase(task) if allow_other_base else task
        with self._lock:
            if name in self._heads:
                raise HeadError("a head of that name exists", found=name)
            self._heads = {**self._heads, name: task}
            kept = Path(head).absolute() if isinstance(head, str | os.PathLike) else head
            self._added = {**self._added, name: (kept, allow_other_base)}
        return self

    @property
    def spec(self) -> LatentSpec:
        """What heads read: channels, stride, and the fingerprint of the base layer."""
        return replace(self._model.architecture.latents, fingerprint=self.fingerprint)

    @property
    def heads(self) -> tuple[str, ...]:
        """Names that :meth:`run` knows."""
        return tuple(self._heads)

    def head(self, name: str) -> Task:
        """A head by its name, called with latents: for heads that are built on others (boxes first, then their parts).

        Raises:
            HeadError: no head of that name.
        """
        head = self._heads.get(name)
        if head is None:
            raise HeadError("no head of that name", expected=", ".join(self._heads), found=name)
        return head

    def run(
        self,
        name: str,
        source: Source | list[Source],
        *,
        max_pixels: int = DEFAULT_PIXELS,
        max_bytes: int = DEFAULT_BYTES,
        **options: Any,
    ) -> Any:
        """Run a head on a file's base latents.

        Args:
            name: ``detect``, ``classify``, or one that :meth:`add_head` registered.
            source: a file or a picture, or a list of these, as for :meth:`latents`.
            max_pixels, max_bytes: as for :meth:`latents`.
            options: for the head, such as ``score=0.3`` for a detection head.

        Returns:
            what the head gives; in results of ours (:data:`vcm.structures.Result`) with the bytes that were read.

        Raises:
            HeadError: no head of that name.
        """
        head = self.head(name)

        limits = Limits(max_pixels, max_bytes)

        def one(file: Source) -> Any:
            latents, count = self._latents(file, limits, head)
            found = head(latents, **options)
            return replace(found, bytes_read=count) if isinstance(found, Result) else found

        files = items_of(source)
        return one(source) if files is None else [one(file) for file in files]  # type: ignore[arg-type]

    # -- cost ---------------------------------------------------------------------------------------------------------

    @property
    def parameters(self) -> int:
        """Learned numbers of the codec, both layers, integer networks included; heads are not counted."""
        return self._engine.parameters

    def complexity(self, width: int = 768, height: int = 512) -> tuple[Cost, ...]:
        """Multiply–accumulates of whole calls on a noise picture, counted by torch's FlopCounterMode.

        Raises:
            MissingDependencyError: torch is not installed.
        """
        return count_costs(self._engine.in_torch(self), width, height)


def _restored(
    path: Path, backend: str, device: str, how: tuple[int | None, Any], prints: tuple[str, str],
    added: dict[str, tuple[Task | Path, bool]],
) -> Codec:  # fmt: skip
    """A pickled codec.

    Raises:
        FingerprintError: its weights are not in that file any more.
    """
    codec = Codec(loaded_for(path, backend, *how), device)
    found = codec.fingerprint, codec.fingerprint_enhancement
    if found != prints:
        what = f"{path} has other weights than the codec that was pickled"
        raise FingerprintError(what, expected=" and ".join(prints), found=" and ".join(found))
    return codec._with_heads(added)


def _file(source: SourceImage, base: BaseLayer, metadata: Metadata) -> Bitstream:
    kind = SourceKind(source.bit_depth, source.grey, source.alpha)
    return Bitstream.of_base(base, source=kind, metadata=metadata)
