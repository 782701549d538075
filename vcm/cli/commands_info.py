"""``vcm inspect``, ``vcm models`` and ``vcm cost``: what a file or a model is."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vcm.cli.options import MODEL, Files, Json, Model, Ndjson, Recursive, in_range

if TYPE_CHECKING:
    from vcm.bitstream import Bitstream
    from vcm.carriers import Carried
    from vcm.cli.output import Row
    from vcm.weights.registry import ModelInfo, TwinInfo

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command()(inspect)
    app.command()(models)
    app.command()(cost)


def inspect(files: Files, recursive: Recursive = False, json: Json = False, ndjson: Ndjson = False) -> None:
    """Show what is in VCM files, and how many bytes each part takes.

    Of a picture that carries a base (vcm attach), show that, and check that it is of this picture.
    """
    from vcm.cli import output as out
    from vcm.cli.inputs import find_inputs

    found = find_inputs(files, recursive=recursive, streams=True)
    raise typer.Exit(out.each(found.paths, "reading", _inspect, None if json else _show_inspected, ndjson=ndjson))


def _inspect(file: Path) -> Row:
    """One entry of what ``vcm inspect --json`` prints."""
    from vcm.bitstream import read
    from vcm.cli.files import data_of, is_vcm
    from vcm.cli.output import state
    from vcm.limits import DEFAULT_BYTES

    most = state.limits.get("max_bytes", DEFAULT_BYTES)
    source = data_of(file)
    if is_vcm(source) or (carried := _carried(source)) is None:
        return {"file": str(file), **_inspected(read(source, max_bytes=most), file)}
    row = _inspected(carried.stream, file)
    where = {"format": carried.host, "offset": carried.offset, "bytes": carried.bytes}
    return {"file": str(file), **row, "carrier": where}


def _carried(source: Path | bytes) -> Carried | None:
    """The base that a picture carries, compared with the picture; ``None`` of what is no picture.

    Raises:
        LayerError: it carries none.
    """
    from vcm.carriers import check_base, host_format
    from vcm.errors import InputError, LayerError

    try:
        # Opening a pipe would wait for its writer.
        host = host_format(source) if isinstance(source, bytes) or source.is_file() else None
    except InputError:  # whoever reads it next says why
        return None
    if host is None:
        return None
    if (carried := check_base(source)) is None:
        what = f"this {host} picture carries no base"
        raise LayerError(what, expected="a VCM file, or a picture after vcm attach")
    return carried


def _inspected(stream: Bitstream, file: Path) -> Row:
    """What there is to say of a stream that was read from ``file``."""
    from vcm.bitstream import FORMAT_VERSION, scale_ratio
    from vcm.cli.files import STREAM
    from vcm.cli.models import model_of
    from vcm.io.remote import address_of

    source, metadata = stream.header.source, stream.metadata
    return {
        "width": stream.width,
        "height": stream.height,
        "format_version": FORMAT_VERSION,
        "model": model_of(stream, () if file == STREAM or address_of(file) else file.parent),
        "fingerprint": stream.base_layer.fingerprint.hex(),
        "layers": list(_layers(stream)),
        "chunks": list(_chunks(stream)),
        "base_bytes": len(stream.base),
        "total_bytes": stream.total_bytes,
        "bpp": stream.bpp,
        "base_bpp": stream.base_bpp,
        "base_scale": float(scale_ratio(stream.base_scale)),
        "bit_depth": source.bit_depth,
        "grey": source.grey,
        "alpha": source.alpha,
        "metadata": [name for name, value in (("EXIF", metadata.exif), ("ICC", metadata.icc)) if value is not None]
        + [key for key, _ in metadata.entries],
    }


def _layers(stream: Bitstream) -> Iterator[Row]:
    """Every layer in order; one of a standard codec has a format in the place of a fingerprint and tiles."""
    from vcm.bitstream import PictureLayer

    for span, layer in zip(stream.layout, (*stream.layers, stream.picture), strict=False):
        row: Row = {"name": span.name, "offset": span.offset, "bytes": span.bytes}
        if layer is None:  # zip has more layers than there are
            return
        row["quality"] = round(layer.quality, 1)
        if isinstance(layer, PictureLayer):
            yield {**row, "format": layer.format.name}
        else:
            yield {**row, "fingerprint": layer.fingerprint.hex(), "tiles": len(layer.tiles)}


def _chunks(stream: Bitstream) -> Iterator[Row]:
    """Every part of a file in order, the header first; together they are the file."""
    from vcm.bitstream import HEADER_BYTES, ChunkKind, Layer

    yield {"name": "header", "offset": 0, "bytes": HEADER_BYTES}
    layers = iter(stream.layer_names)
    keys = iter(key for key, _ in stream.metadata.entries)
    offset = HEADER_BYTES
    for chunk in stream.chunks:
        if isinstance(chunk, Layer) or chunk.kind == ChunkKind.PICTURE:
            name = next(layers)
        elif chunk.kind == ChunkKind.ENTRY:
            name = f"entry {next(keys)}"
        else:
            known = chunk.kind in set(ChunkKind)
            name = ChunkKind(chunk.kind).name if known else f"unknown kind {chunk.kind}"
        yield {"name": name, "offset": offset, "bytes": chunk.wire_bytes}
        offset += chunk.wire_bytes


def _show_inspected(row: Row) -> None:
    from vcm.cli import output as out
    from vcm.io.text import three_digits

    size = f"{row['width']}x{row['height']}"
    kind = f"{row['bit_depth']}-bit {'grey' if row['grey'] else 'colour'}{' with alpha' if row['alpha'] else ''}"
    bpp, base_bpp = three_digits(row["bpp"]), three_digits(row["base_bpp"])
    within = ""
    if (carrier := row.get("carrier")) is not None:
        within = f"{carrier['format']} with a base in {carrier['bytes']:,} bytes at {carrier['offset']:,}, "
    out.say(f"{out.input_name(row['file'])}: {within}VCM version {row['format_version']}, {size}, from {kind}")
    out.say(f"model        {row['model'] or 'no model at hand'} (base {row['fingerprint']})")
    if carrier is None:
        out.say(f"whole file   {row['total_bytes']:,} bytes, {bpp} bpp")
    out.say(f"base prefix  {row['base_bytes']:,} bytes, {base_bpp} bpp, coded at {row['base_scale']:g} of the size")
    layers = {layer["offset"]: layer for layer in row["layers"]}
    rows = []
    for chunk in row["chunks"]:
        layer = layers.get(chunk["offset"])
        more = ("", "", "")
        if layer is not None:
            identity = layer.get("fingerprint") or layer["format"]
            more = f"{layer['quality']:g}", str(layer.get("tiles", "")), identity
        rows.append((chunk["name"], f"{chunk['offset']:,}", f"{chunk['bytes']:,}", *more))
    out.print_table(("part", "offset", "bytes", "quality", "tiles", "fingerprint"), rows, left=(0, 5))


def models(json: Json = False) -> None:
    """List the models at hand: codecs, and pixel twins, which detect on pixels and code nothing.

    They are those that are shipped, and those in the folders of VCM_WEIGHTS.
    """
    import vcm
    from vcm.cli import output as out

    codecs, twins = vcm.list_models(), vcm.list_twins()
    if json:
        out.print_json(
            [_model_json("codec", model) for model in codecs] + [_model_json("twin", twin) for twin in twins]
        )
        return
    rows = [(_short(m.name, 30), "codec", f"{m.bytes / 1e6:.1f}", f"base {_short(m.fingerprint, 16)}") for m in codecs]
    rows += [(_short(t.name, 30), "twin", f"{t.bytes / 1e6:.1f}", f"trunk {_short(t.trunk, 24)}") for t in twins]
    out.print_table(("model", "kind", "MB", "identity"), rows, left=(0, 1, 3))
    shipped: tuple[ModelInfo | TwinInfo, ...] = (*codecs, *twins)
    for model in shipped:
        _show_model(model)


def _show_model(model: ModelInfo | TwinInfo) -> None:
    """A block of lines; only a path may be wider than 80 columns."""
    from vcm.cli import output as out
    from vcm.weights.registry import TwinInfo

    out.say("")
    out.say(_short(model.name, 78))
    out.say(f"  weights  {model.path}")
    if not isinstance(model, TwinInfo):
        base, enhancement = _short(model.fingerprint, 16), _short(model.fingerprint_enhancement, 16)
        out.say(f"  reads    base {base}, enhancement {enhancement}")
    out.say(f"  card     {model.card_path or 'none'}")
    for index, line in enumerate(textwrap.wrap(_short(model.trained, 400), 69) or ["not said"]):
        out.say(f"  {'' if index else 'trained':<7}  {line}")


def _short(text: str, longest: int) -> str:
    """Text of a weights file, which may be of any length and hold anything, for a person."""
    from vcm.cli.output import printable

    clean = printable(text)
    return clean if len(clean) <= longest else f"{clean[: longest - 1]}…"


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
    import vcm
    from vcm.cli import output as out

    codec = vcm.load(model, backend="torch")
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
