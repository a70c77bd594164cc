"""The page's addresses: the page itself, the models, pictures that are dropped, and work on them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from ...data.faults import BadFile
from .density_views import AROUND, HOLE, SIDE, SWEEPS, draw
from .guard import Guard
from .pictures import Picture, Pictures
from .served import Served
from .views import ACTS
from .work import Busy, Job, View, Worker

STATIC = Path(__file__).parent / "static"
_MOST_ASKED = 1 << 20  # bytes of a request for work: above all the runs of a hole


class Site:
    """What the page's server holds.

    Args:
        models: that it offers.
        pictures: where dropped pictures go.
        worker: does the work.
    """

    def __init__(self, models: Sequence[Served], pictures: Pictures, worker: Worker) -> None:
        self.models, self.pictures, self.worker = list(models), pictures, worker
        self._reading = anyio.CapacityLimiter(1)

    def app(self, names: Sequence[str] | frozenset[str], local: bool) -> Starlette:
        """The application, which answers only to these names, see :class:`Guard`."""
        return Starlette(
            routes=[
                Route("/", self.page),
                Route("/api/models", self.described),
                Route("/api/pictures", self.take, methods=["POST"]),
                Route("/api/pictures/{key}", self.shown),
                Route("/api/jobs", self.ask, methods=["POST"]),
                Route("/api/jobs/{key}", self.job),
                Route("/api/jobs/{key}", self.cancel, methods=["DELETE"]),
                Route("/api/jobs/{key}/{plane}", self.plane),
                Mount("/static", StaticFiles(directory=STATIC)),
            ],
            middleware=[Middleware(Guard, names=names, local=local)],
            exception_handlers={HTTPException: _told},
        )

    async def page(self, request: Request) -> Response:
        return Response(await anyio.Path(STATIC / "index.html").read_bytes(), media_type="text/html")

    async def described(self, request: Request) -> Response:
        limits = {
            "bytes": self.pictures.most_bytes,
            "pixels": self.pictures.most_pixels,
            "hole": HOLE,
            "around": AROUND,
            "side": SIDE,
            "sweeps": SWEEPS,
        }
        return JSONResponse({"models": [model.described() for model in self.models], "limits": limits})

    async def take(self, request: Request) -> Response:
        name = request.query_params.get("name", "picture")
        most = self.pictures.most_bytes
        data = await _body(
            request, most, f"{name}: is larger than {most / 2**20:g} MB (--max-megabytes sets the limit)"
        )
        try:
            # one after the other: a small file may unfold to a large picture
            picture = await anyio.to_thread.run_sync(self.pictures.add, name, data, limiter=self._reading)
        except BadFile as fault:
            raise HTTPException(422, str(fault)) from fault
        return JSONResponse(
            {"id": picture.id, "name": picture.name, "height": picture.height, "width": picture.width}, 201
        )

    async def shown(self, request: Request) -> Response:
        return Response(self._picture(request.path_params["key"]).shown, media_type="image/png")

    async def ask(self, request: Request) -> Response:
        wanted = await _json(request)
        number, view, key = wanted.get("model"), wanted.get("view"), wanted.get("picture")
        if type(number) is not int or not 0 <= number < len(self.models):
            raise HTTPException(
                400, f"model must be a number from 0 to {len(self.models) - 1}, got {number!r}"
            )
        served = self.models[number]
        views = served.described()["views"]
        if not isinstance(view, str) or view not in views:
            raise HTTPException(
                400, f"view must be one of {', '.join(views)} for {served.name}, got {view!r}"
            )
        options = wanted.get("options", {})
        if not isinstance(options, dict):
            raise HTTPException(400, "options must be an object")
        act: Callable[[Job], View]
        if view == "draw":
            act = partial(draw, served, options)
        else:
            act = partial(ACTS[view], served, self._picture(key), options)
        try:
            job = self.worker.submit(act)
        except Busy as busy:
            raise HTTPException(503, str(busy)) from busy
        return JSONResponse(self._state(job), 201)

    async def job(self, request: Request) -> Response:
        return JSONResponse(self._state(self._job(request)))

    async def cancel(self, request: Request) -> Response:
        job = self._job(request)
        self.worker.cancel(job)
        return JSONResponse(self._state(job))

    async def plane(self, request: Request) -> Response:
        found = self._job(request).view.planes.get(request.path_params["plane"])
        if found is None:
            raise HTTPException(404, "there is no such result")
        little = found.astype(found.dtype.newbyteorder("<"), copy=False)
        # shape and values belong together: the next view of a job may already be another
        headers = {"x-shape": ",".join(map(str, found.shape)), "x-type": str(found.dtype)}
        return Response(little.tobytes(), media_type="application/octet-stream", headers=headers)

    def _picture(self, key: Any) -> Picture:
        picture = self.pictures.find(key) if isinstance(key, str) else None
        if picture is None:
            raise HTTPException(404, "this picture is no longer here: drop it again")
        return picture

    def _job(self, request: Request) -> Job:
        job = self.worker.find(request.path_params["key"])
        if job is None:
            raise HTTPException(404, "this result is no longer here: ask for it again")
        job.looked_at()
        return job

    def _state(self, job: Job) -> dict[str, Any]:
        return {
            "id": job.id,
            "state": job.state,
            "ahead": self.worker.ahead(job),
            "share": job.share,
            "text": job.text,
            "error": job.error,
            "version": job.version,
            "told": dict(job.view.told),
            "planes": list(job.view.planes),
        }


async def _body(request: Request, most: int, reason: str) -> bytes:
    """What a request brings.

    Raises:
        HTTPException: it is too much, whatever its header says.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > most:
        raise HTTPException(413, reason)
    data = bytearray()
    try:
        async for chunk in request.stream():
            data += chunk
            if len(data) > most:
                raise HTTPException(413, reason)
    except ClientDisconnect as gone:
        raise HTTPException(400, "the connection ended before all had arrived") from gone
    return bytes(data)


async def _json(request: Request) -> dict[str, Any]:
    body = await _body(
        request, _MOST_ASKED, f"a request may have {_MOST_ASKED:,} bytes; paint a simpler hole"
    )
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, "the request is no JSON") from error
    if not isinstance(value, dict):
        raise HTTPException(400, "the request must be a JSON object")
    return value


async def _told(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code)
