"""The routes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi import Path as InPath
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException as AnyHTTPException

import vcm
from vcm.api import Codec
from vcm.archive.archive import Hit
from vcm.errors import FormatError, ImageError, InputError, LimitError, OutputError, UsageError, VcmError
from vcm.service import answers
from vcm.service.guard import Guard, Metrics
from vcm.service.options import ServiceOptions
from vcm.service.store import LEAST_SCORE, Busy, Store

__all__ = ["build_app"]

_PAGE = Path(__file__).with_name("page.html")
_BEARER = HTTPBearer(auto_error=False, description="the token of the service, where it has one")
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_Picture = Annotated[str, InPath(pattern="^[0-9a-f]{32}$", description="its name in the archive")]
_ANY: dict[int | str, dict[str, Any]] = {
    401: {"model": answers.Problem, "description": "no token, or a wrong one"},
    422: {"model": answers.Problem, "description": "a parameter is wrong, or the picture"},
    429: {"model": answers.Problem, "description": "too many requests"},
    500: {"model": answers.Problem, "description": "the archive cannot be read or written"},
    503: {"model": answers.Problem, "description": "too much work is waiting"},
}
_ONE = {**_ANY, 404: {"model": answers.Problem, "description": "no such picture"}}


def _file(*media: str) -> dict[int | str, dict[str, Any]]:
    content = dict.fromkeys(media, _BINARY)
    return {
        **_ONE,
        200: {"description": "the file", "content": content},
        206: {"description": "a range of it", "content": content},
        304: {"description": "as it was (If-None-Match)"},
        416: {"description": "there is no such range"},
    }


def build_app(archive: str, codec: Codec, options: ServiceOptions | None = None) -> FastAPI:
    """The service of an archive.

    Args:
        archive: folder or address; it may be empty.
        codec: encodes what is sent.
        options: limits.
    """
    options = options or ServiceOptions()
    store, metrics = Store(archive, codec, options), Metrics()
    app = FastAPI(
        title="VCM archive", version=vcm.__version__, docs_url=None, redoc_url=None,
        description="What is in pictures from their base layers; pixels when somebody looks.",
    )  # fmt: skip
    app.add_middleware(Guard, metrics=metrics, rate=options.rate)

    def authorised(sent: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]) -> None:
        if not options.admits(None if sent is None else sent.credentials):
            raise HTTPException(401, "a token is needed", headers={"WWW-Authenticate": "Bearer"})

    def hit_of(picture: str) -> Hit:
        found = store.hit(picture)
        if found is None:
            raise HTTPException(404, "no such picture")
        return found

    secured: dict[str, Any] = {} if options.token is None else {"dependencies": [Depends(authorised)]}
    _add_errors(app)

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    def page() -> HTMLResponse:
        return HTMLResponse(_PAGE.read_text("utf-8"))

    @app.get("/health", responses={500: _ANY[500]})
    def health() -> answers.Health:
        """Whether the archive can be read."""
        return answers.Health(status="ok", pictures=store.stored()[0], version=vcm.__version__)

    @app.get("/metrics", responses={**_ANY, 200: {"content": {"text/plain": {}}}}, response_class=Response, **secured)
    def numbers() -> Response:
        """For Prometheus."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/labels", responses=_ANY, **secured)
    def labels() -> answers.Labels:
        """Classes that were found in any picture."""
        return answers.Labels(labels=store.labels())

    @app.get("/pictures", responses=_ANY, **secured)
    def pictures(
        query: Annotated[
            str, Query(max_length=1000, description='such as "person > 0.5 and dog, since yesterday"')
        ] = "",
        limit: Annotated[int, Query(ge=1, le=1000)] = 60,
    ) -> answers.Page:
        """Pictures that a query is true of, newest first."""
        hits = store.query(query, limit)
        stored, stored_bytes = store.stored()
        return answers.Page(
            total=hits.total, stored=stored, stored_bytes=stored_bytes,
            pictures=[answers.picture_out(hit) for hit in hits.pictures],
        )  # fmt: skip

    @app.post(
        "/pictures",
        responses={
            **_ANY,
            200: {"model": answers.Added, "description": "it was there already"},
            201: {"model": answers.Added, "description": "it was taken in"},
            403: {"model": answers.Problem, "description": "the service only reads"},
            408: {"model": answers.Problem, "description": "it took too long to arrive"},
            413: {"model": answers.Problem, "description": "too many bytes or pixels"},
        },
        openapi_extra={"requestBody": {"required": True, "content": {"application/octet-stream": _BINARY}}},
        **secured,
    )
    async def add(
        request: Request,
        camera: Annotated[str, Query(pattern=r"^[\w.-]{1,60}$", description="whose picture it is")] = "upload",
        name: Annotated[str, Query(pattern=r"^[\w .()-]{1,200}$", description="of the file")] = "upload",
    ) -> JSONResponse:
        """Take a picture in: the body is its file, or a VCM file."""
        if options.read_only:
            raise HTTPException(403, "this service only reads")
        data = await _body(request, options)
        hit, new = await run_in_threadpool(store.add, data, name, camera)
        if new:
            metrics.taken.inc()
        out = answers.Added(**answers.picture_out(hit).model_dump(), new=new)
        return JSONResponse(out.model_dump(mode="json"), 201 if new else 200)

    @app.get("/pictures/{picture}", responses=_ONE, **secured)
    def one(picture: _Picture) -> answers.PictureOut:
        """A picture's row in the archive."""
        return answers.picture_out(hit_of(picture))

    @app.get("/pictures/{picture}/detections", responses=_ONE, **secured)
    def detections(
        picture: _Picture, score: Annotated[float, Query(ge=LEAST_SCORE, le=1)] = 0.3
    ) -> answers.DetectionsOut:
        """Objects, from the base layer: no pixel is decoded."""
        hit = hit_of(picture)
        found = store.detections(hit, score)
        metrics.read.labels("base").inc(found.bytes_read)
        return answers.DetectionsOut(
            picture=picture, width=hit.width, height=hit.height, bytes_read=found.bytes_read,
            detections=answers.boxes_of(found.value),
        )  # fmt: skip

    def unchanged(request: Request, tag: str) -> bool:
        asked = request.headers.get("if-none-match", "")
        return asked.strip() == "*" or f'"{tag}"' in [part.strip().removeprefix("W/") for part in asked.split(",")]

    def answer(request: Request, media: str, tag: str, data: bytes, size: int, count: int, what: str) -> Response:
        metrics.read.labels(what).inc(count)
        return answers.bytes_answer(request, data, size, media, tag, {"X-Bytes-Read": str(count)})

    @app.get("/pictures/{picture}/preview", responses=_file("image/jpeg"), response_class=Response, **secured)
    def preview(request: Request, picture: _Picture) -> Response:
        """A small JPEG, from the base layer."""
        hit, tag = hit_of(picture), f"{picture}-preview"
        if unchanged(request, tag):
            return Response(status_code=304, headers={"ETag": f'"{tag}"'})
        made = store.preview(hit)
        return answer(request, "image/jpeg", tag, made.value, len(made.value), made.bytes_read, "base")

    @app.get(
        "/pictures/{picture}/picture",
        responses={**_file(*answers.FORMATS), 406: {"model": answers.Problem, "description": "no such format"}},
        response_class=Response,
        **secured,
    )
    def full(request: Request, picture: _Picture) -> Response:
        """The picture, decoded now, as ``Accept`` wants it: AVIF, WebP, JPEG or PNG."""
        hit = hit_of(picture)
        media = answers.chosen_format(request.headers.get("accept", ""))
        if media is None:
            raise HTTPException(406, f"pictures come as {', '.join(answers.FORMATS)}")
        tag = f"{picture}-{hit.bytes}-{answers.FORMATS[media].lower()}"
        if unchanged(request, tag):
            return Response(status_code=304, headers={"ETag": f'"{tag}"', "Vary": "Accept"})
        made = store.picture(hit, answers.FORMATS[media])
        out = answer(request, media, tag, made.value, len(made.value), made.bytes_read, "picture")
        out.headers["Vary"] = "Accept"
        return out

    @app.get(
        "/pictures/{picture}/base", responses=_file("application/octet-stream"), response_class=Response, **secured
    )
    def base(request: Request, picture: _Picture) -> Response:
        """Header and base layer, for clients that detect by themselves."""
        hit, tag = hit_of(picture), f"{picture}-base"
        if unchanged(request, tag):
            return Response(status_code=304, headers={"ETag": f'"{tag}"'})
        data = store.base(hit)
        return answer(request, "application/octet-stream", tag, data, len(data), len(data), "base")

    @app.get(
        "/pictures/{picture}/file", responses=_file("application/octet-stream"), response_class=Response, **secured
    )
    def file(request: Request, picture: _Picture) -> Response:
        """The VCM file, for clients that decode by themselves; of a range no more is read than up to its end."""
        hit = hit_of(picture)
        tag = f"{picture}-{hit.bytes}"
        if unchanged(request, tag):
            return Response(status_code=304, headers={"ETag": f'"{tag}"'})
        data = store.data(hit, answers.end_of_range(request, hit.bytes, tag))
        return answer(request, "application/octet-stream", tag, data, hit.bytes, len(data), "file")

    return app


async def _body(request: Request, options: ServiceOptions) -> bytes:
    """The body, within its limits of length and time."""
    too_long = HTTPException(413, f"a file may have {options.max_upload_bytes} bytes")
    claimed = request.headers.get("content-length", "0")
    if not claimed.isdigit() or int(claimed[:20]) > options.max_upload_bytes:
        raise too_long
    taken = bytearray()
    try:
        async with asyncio.timeout(options.upload_seconds):
            async for piece in request.stream():
                taken += piece
                if len(taken) > options.max_upload_bytes:
                    raise too_long
    except TimeoutError:
        raise HTTPException(408, "the file took too long to arrive", headers={"Connection": "close"}) from None
    return bytes(taken)


def _add_errors(app: FastAPI) -> None:
    def said(status: int, text: str, headers: Any = None) -> JSONResponse:
        return JSONResponse({"error": text}, status, headers=headers)

    @app.exception_handler(AnyHTTPException)
    async def http(request: Request, error: AnyHTTPException) -> JSONResponse:
        headers = dict(error.headers or {})
        if error.status_code == 405:  # each method of a path is a route, and the first that refuses names only its own
            routes = [r for r in app.routes if isinstance(r, APIRoute) and r.path_regex.match(request.url.path)]
            headers["Allow"] = ", ".join(sorted({method for route in routes for method in route.methods or ()}))
        return said(error.status_code, str(error.detail), headers)

    @app.exception_handler(RequestValidationError)
    async def parameters(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return said(422, f"{'.'.join(map(str, first['loc']))}: {first['msg']}")

    @app.exception_handler(Busy)
    async def busy(_: Request, error: Busy) -> JSONResponse:
        return said(503, "too much work is waiting", {"Retry-After": "1"})

    @app.exception_handler(VcmError)
    async def ours(request: Request, error: VcmError) -> JSONResponse:
        if isinstance(error, InputError | OutputError):
            return said(500, str(error))
        if isinstance(error, LimitError) and request.method == "POST":
            return said(413, str(error))
        sent = request.method == "POST" and isinstance(error, ImageError | FormatError)
        return said(422 if sent or isinstance(error, UsageError) else 500, str(error))
