"""``vcm serve``: an archive over HTTP."""

from __future__ import annotations

from typing import Annotated

import typer

from vcm.cli.options import MODEL, Model, Threads, in_range

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Adds the command of this module."""
    app.command()(serve)


def serve(
    archive: Annotated[str, typer.Argument(metavar="DEST", help="An archive, as of vcm ingest.", show_default=False)],
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", "-p", callback=in_range(1, 65535), help="Port to listen on.")] = 8000,
    token: Annotated[
        str | None,
        typer.Option("--token", envvar="VCM_TOKEN", help="What clients must send.", show_default="none"),
    ] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="Take no pictures.")] = False,
    max_megabytes: Annotated[
        float, typer.Option("--max-megabytes", callback=in_range(0.001, 1000), help="Of a file that is sent.")
    ] = 20,
    max_megapixels: Annotated[
        float, typer.Option("--max-megapixels", callback=in_range(0.001, 268), help="Of a picture that is sent.")
    ] = 25,
    upload_seconds: Annotated[
        float, typer.Option("--upload-seconds", callback=in_range(0.1, 3600), help="In which it must have arrived.")
    ] = 30,
    rate: Annotated[
        float, typer.Option("--rate", callback=in_range(0, 1e6), help="Requests a second of each client; 0: any.")
    ] = 200,
    jobs: Annotated[int, typer.Option("--jobs", "-j", callback=in_range(1, 64), help="Pictures at once.")] = 2,
    model: Model = MODEL,
    threads: Threads = None,
) -> None:
    """Serve an archive over HTTP, with a page to look through it.

    What is in pictures is read from their bases; pixels are decoded when
    somebody asks for a picture. The log is a line of JSON a request, on stderr.
    """
    import ipaddress

    import vcm
    from vcm.cli import output as out
    from vcm.requirements import needing

    with needing("vcm serve"):
        from vcm import service
    options = service.ServiceOptions(
        token=token, read_only=read_only, max_upload_bytes=int(max_megabytes * 1e6), rate=rate, jobs=jobs,
        max_pixels=int(max_megapixels * 1e6), upload_seconds=upload_seconds,
    )  # fmt: skip
    codec = vcm.load(model, threads=threads)
    app = service.build_app(archive, codec, options)
    shown = f"[{host}]" if ":" in host else host
    out.line(f"{archive} at http://{shown}:{port}/")
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if token is None and not loopback:
        out.line("warning: anybody who reaches this address may read and add pictures: --token and --read-only help")
    service.serve(app, host, port, options)
