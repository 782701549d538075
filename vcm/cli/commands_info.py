"""``vcm inspect``, ``vcm models`` and ``vcm cost``: what a file or a model is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vcm.cli.options import MODEL, Json, Model, in_range

if TYPE_CHECKING:
    from vcm.weights.registry import ModelInfo, TwinInfo

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command()(inspect)
    app.command()(models)
    app.command()(cost)


def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A VCM file.", show_default=False)], json: Json = False
) -> None:
    """Show what is in a VCM file."""
    from vcm.cli import output as out

    def work(file: Path) -> None:
        found = _inspect(file)
        if json:
            out.print_json(found)
        else:
            _print_inspected(found)

    raise typer.Exit(out.each([file], "reading", work, str))


def _inspect(file: Path) -> dict[str, Any]:
    """What ``vcm inspect --json`` prints."""
    from vcm.bitstream import FORMAT_VERSION, read
    from vcm.cli.models import model_of

    stream = read(file)
    source, metadata = stream.header.source, stream.metadata
    return {
        "file": str(file),
        "width": stream.width,
        "height": stream.height,
        "format_version": FORMAT_VERSION,
        "model": model_of(stream, file.parent),
        "fingerprint": stream.base_layer.fingerprint.hex(),
        "layers": [
            {
                "name": span.name,
                "offset": span.offset,
                "bytes": span.bytes,
                "fingerprint": layer.fingerprint.hex(),
                "tiles": len(layer.tiles),
            }
            for span, layer in zip(stream.layout, stream.layers, strict=True)
        ],
        "base_bytes": len(stream.base),
        "total_bytes": stream.total_bytes,
        "bpp": stream.bpp,
        "base_bpp": stream.base_bpp,
        "base_scale": stream.base_scale / 8,
        "bit_depth": source.bit_depth,
        "grey": source.grey,
        "alpha": source.alpha,
        "metadata": [name for name, value in (("EXIF", metadata.exif), ("ICC", metadata.icc)) if value is not None]
        + [key for key, _ in metadata.entries],
    }


def _print_inspected(found: dict[str, Any]) -> None:
    from vcm.cli import output as out

    size = f"{found['width']}x{found['height']}"
    kind = f"{found['bit_depth']}-bit {'grey' if found['grey'] else 'colour'}{' with alpha' if found['alpha'] else ''}"
    base = f"{found['base_bytes']:,} bytes, {found['base_bpp']:.4f} bpp, coded at {found['base_scale']:g} of the size"
    out.say(f"{found['file']}: VCM version {found['format_version']}, {size}, from {kind}")
    out.say(f"model        {found['model'] or 'no weights at hand'} (base {found['fingerprint']})")
    out.say(f"whole file   {found['total_bytes']:,} bytes, {found['bpp']:.4f} bpp")
    out.say(f"base prefix  {base}")
    out.say(f"metadata     {', '.join(found['metadata']) or 'none'}")
    rows = [
        (layer["name"], f"{layer['offset']:,}", f"{layer['bytes']:,}", str(layer["tiles"]), layer["fingerprint"])
        for layer in found["layers"]
    ]
    out.print_table(("layer", "offset", "bytes", "tiles", "fingerprint"), rows, left=(0, 4))


def models(json: Json = False) -> None:
    """List the models that are shipped: codecs, and pixel twins, which detect on pixels and code nothing."""
    import vcm
    from vcm.cli import output as out

    codecs, twins = vcm.list_models(), vcm.list_twins()
    if json:
        out.print_json(
            [_model_json("codec", model) for model in codecs] + [_model_json("twin", twin) for twin in twins]
        )
        return
    rows = [(m.name, "codec", f"{m.bytes / 1e6:.1f}", f"base {m.fingerprint}", m.trained) for m in codecs]
    rows += [(t.name, "twin", f"{t.bytes / 1e6:.1f}", f"trunk {t.trunk}", t.trained) for t in twins]
    out.print_table(("model", "kind", "MB", "identity", "trained"), rows, left=(0, 1, 3, 4))
    shipped: tuple[ModelInfo | TwinInfo, ...] = (*codecs, *twins)
    for model in shipped:
        out.say(f"{model.name}: {model.path}, card {model.card_path or 'none'}")


def _model_json(kind: str, model: ModelInfo | TwinInfo) -> dict[str, Any]:
    from dataclasses import asdict

    fields = asdict(model)
    card = fields.pop("card_path")
    return {"kind": kind, **fields, "path": str(model.path), "card": None if card is None else str(card)}


def cost(
    model: Model = MODEL,
    width: Annotated[int, typer.Option(callback=in_range(16, 8192), help="Pixels.")] = 768,
    height: Annotated[int, typer.Option(callback=in_range(16, 8192), help="Pixels.")] = 512,
    json: Json = False,
) -> None:
    """Print the cost of each stage and its budget.

    In thousand multiply-accumulates per source pixel, padding and the integer networks included.
    """
    from vcm.cli import output as out
    from vcm.cli.models import Models

    codec = Models(model).default()
    with out.working("counting"):
        costs = codec.complexity(width, height)
    if json:
        out.print_json([{"stage": c.stage, "kmac_per_px": c.kmac_per_px, "budget": c.budget} for c in costs])
        return
    rows = [
        (c.stage, f"{c.kmac_per_px:.2f}", f"{c.budget:g}", "inside" if c.kmac_per_px <= c.budget else "OVER")
        for c in costs
    ]
    out.say(f"{codec.name}, {width}x{height}, kMAC per source pixel")
    out.print_table(("stage", "kMAC/px", "budget", ""), rows, left=(0, 3))
