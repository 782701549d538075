"""A folder of photographs to base layers, and what is found in them as COCO results.

    python docs/examples/detect_folder.py [PHOTOS] [--out DIR]

Writes ``DIR/NAME.vcm`` (base only: what a camera would send), ``DIR/NAME.png`` with the boxes drawn, and
``DIR/results.json``.
Without PHOTOS it takes photographs that scikit-image ships.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import skimage.data
from PIL import Image

import vcm


def sample_photographs(folder: Path) -> Path:
    """Writes three photographs to ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("astronaut", "chelsea", "coffee"):
        Image.fromarray(getattr(skimage.data, name)()).save(folder / f"{name}.png")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="?", type=Path)
    parser.add_argument("--out", type=Path, default=Path("detections"))
    parser.add_argument("--score", type=float, default=0.3)
    options = parser.parse_args()
    photos = options.photos or sample_photographs(options.out / "photos")
    options.out.mkdir(parents=True, exist_ok=True)

    codec = vcm.load("vcm-s")
    rows, sent, pixels = [], 0, 0
    for image_id, photo in enumerate(sorted(p for p in photos.iterdir() if p.is_file()), start=1):
        stream = codec.encode(photo, base_only=True)
        stream.save(options.out / f"{photo.stem}.vcm")
        sent, pixels = sent + stream.total_bytes, pixels + stream.width * stream.height

        found = codec.detect(options.out / f"{photo.stem}.vcm", score=options.score)  # no pixels from here on
        rows += found.to_coco(image_id)
        with Image.open(photo) as picture:
            found.plot(picture).save(options.out / f"{photo.stem}.png")
        print(f"{photo.name}: {found.bytes_read} bytes read: {', '.join(found.label_names()) or 'nothing'}")

    (options.out / "results.json").write_text(json.dumps(rows, indent=1))
    print(f"{len(rows)} objects from {sent} bytes, {8 * sent / pixels:.4f} bits per pixel")


if __name__ == "__main__":
    main()
