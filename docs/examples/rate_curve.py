"""Rate–PSNR curves of a few codecs on photographs that scikit-image ships, BD-rates against JPEG, and a report.

    python docs/examples/rate_curve.py [--codecs jpeg,webp,vcm-s] [--points 4] [--out DIR]

For rate–accuracy curves take a data set with boxes, the protocol ``vcm-detection`` and a machine:
``vcm.eval.machines.load.load_machine("twin")``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import skimage.data
from PIL import Image

from vcm.errors import CurveError
from vcm.eval.curves.bd import Curve, bd_rate
from vcm.eval.data.datasets import load_dataset
from vcm.eval.evaluate import evaluate
from vcm.eval.run.codecs import load_codecs
from vcm.eval.run.protocols import Protocol


def sample_photographs(folder: Path) -> Path:
    """Writes three photographs to ``folder``, half their size, so that this is quick."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("astronaut", "chelsea", "coffee"):
        Image.fromarray(getattr(skimage.data, name)()).reduce(2).save(folder / f"{name}.png")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codecs", default="jpeg,webp,vcm-s")
    parser.add_argument("--points", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("curves"))
    options = parser.parse_args()

    codecs = load_codecs(options.codecs.split(","), base=False)
    fractions = [(i + 0.5) / options.points for i in range(options.points)]
    protocol = Protocol(
        name="example",
        title="Rate and PSNR",
        task="distortion",
        anchors=(codecs[0].name,),
        points={codec.name: tuple(codec.quality_range.at(f) for f in fractions) for codec in codecs},
        metrics=("psnr",),
        bootstrap=100,
        departures=("three small photographs are no test set",),
    )
    pictures = load_dataset(sample_photographs(options.out / "photos"), layout="plain")
    _, results = evaluate(protocol, pictures, codecs, [], options.out, command="docs/examples/rate_curve.py")

    curves = []
    for codec in codecs:
        points = results.curve(codec.name, "", "psnr")
        curves.append(Curve.from_arrays(codec.name, [r.value for r, _ in points], [v.value for _, v in points]))
        print(codec.name, *(f"{p.rate:.2f} bpp {p.metric:.1f} dB" for p in curves[-1].points), sep="  ")
    for curve in curves[1:]:
        try:
            print(f"{curve.name}: {bd_rate(curves[0], curve).value:+.1f} % bits against {curves[0].name} at equal PSNR")
        except CurveError as error:
            print(f"{curve.name}: no BD-rate, {error}")
    print("report:", options.out / "report.html")


if __name__ == "__main__":
    main()
