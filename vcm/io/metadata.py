"""EXIF blocks: what of them a coded picture keeps, and the orientation, which it has had applied."""

from __future__ import annotations

from PIL import ExifTags, Image

__all__ = ["picture_exif", "without_orientation"]

# EXIF is a TIFF directory. In a TIFF file these tags describe the pixels of that very file, or hold other metadata
# blocks (XMP can repeat the position, so it goes as well); none of them means anything for a decoded picture.
_NOT_EXIF = frozenset(
    {254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 277, 278, 279, 280, 281, 284, 292, 293, 317, 320, 322,
     323, 324, 325, 330, 332, 338, 339, 340, 341, 347, 512, 513, 514, 529, 530, 531, 532, 700, 33723, 34377, 34675}
)  # fmt: skip


def picture_exif(image: Image.Image, keep_gps: bool) -> tuple[int, bytes | None]:
    """The orientation (1 … 8) and the EXIF block to keep, without it. A damaged block is as good as none."""
    try:
        exif = image.getexif()
        orientation = exif.get(ExifTags.Base.Orientation, 1)
        kept = _kept(exif, keep_gps)
        return int(orientation) if orientation in range(1, 9) else 1, kept.tobytes() if len(kept) else None
    except Exception:  # EXIF is a hostile format of its own, and the picture does not need it
        return 1, None


def without_orientation(block: bytes) -> bytes | None:
    """A file's EXIF block for pixels that are upright already; ``None`` if nothing is left of it.

    Ours has no orientation and is returned as it is, and so is one that cannot be read: whoever stores it has to see.
    """
    try:
        exif = Image.Exif()
        exif.load(block)
        if ExifTags.Base.Orientation not in exif:
            return block
        kept = _kept(exif, keep_gps=True)
        return kept.tobytes() if len(kept) else None
    except Exception:  # as above
        return block


def _kept(exif: Image.Exif, keep_gps: bool) -> Image.Exif:
    kept = Image.Exif()
    for tag, value in exif.items():
        if tag not in _NOT_EXIF and tag not in (ExifTags.Base.Orientation, ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
            kept[tag] = value
    for ifd in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        if ifd in exif and (ifd != ExifTags.IFD.GPSInfo or keep_gps):
            block = dict(exif.get_ifd(ifd))
            if ifd == ExifTags.IFD.Exif and ExifTags.IFD.Interop in block:
                del block[ExifTags.IFD.Interop]  # an offset into the old block
            kept[ifd] = block
    return kept
