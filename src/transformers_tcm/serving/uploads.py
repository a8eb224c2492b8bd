"""The image in a request: the body itself, or the file of a form."""

import asyncio
from typing import NamedTuple

from fastapi import HTTPException, Request
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from .limits import ServiceLimits

__all__ = ["Upload", "read_upload"]

_FORM = "multipart/form-data"
# What programs say of a file when they do not know better; curl does for --data-binary.
_UNKNOWN = ("", "application/octet-stream", "application/x-www-form-urlencoded")


class Upload(NamedTuple):
    """The bytes of a file, and what the client calls it, if it says so."""

    content: bytes
    name: str | None


async def read_upload(request: Request, limits: ServiceLimits) -> Upload:
    """The image of a request, no more bytes of it than are allowed.

    Raises:
        HTTPException: 413 for too many bytes, 408 for a slow client, 415 for a body of another kind, 422 without an
            image, 400 for a form that is damaged.
    """
    _check_declared_size(request, limits.max_bytes)
    limited = Request(request.scope, _counted(request.receive, limits.max_bytes))
    try:
        async with asyncio.timeout(limits.upload_seconds):
            upload = await _read(limited)
    except TimeoutError as error:
        raise HTTPException(408, f"the image was not sent within {limits.upload_seconds:g} seconds") from error
    except ClientDisconnect as error:
        raise HTTPException(400, "the client left before the image was sent") from error
    if not upload.content:
        raise HTTPException(422, "no image in the request; expected the bytes of a file")
    return upload


async def _read(request: Request) -> Upload:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == _FORM:
        return await _read_form(request)
    if kind.startswith("image/") or kind in _UNKNOWN:
        return Upload(await request.body(), None)
    raise HTTPException(415, f"the body is {kind}; expected image/*, application/octet-stream or {_FORM}")


async def _read_form(request: Request) -> Upload:
    async with request.form(max_files=1) as form:
        for entry in form.values():
            if isinstance(entry, UploadFile):
                return Upload(await entry.read(), entry.filename or None)
    raise HTTPException(422, "no file in the form; expected one, such as curl -F image=@photo.jpg sends")


def _check_declared_size(request: Request, most: int) -> None:
    """Refuse what says itself that it is too large, before anything of it is read."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > most:
        raise _too_large(most)


def _counted(receive: Receive, most: int) -> Receive:
    """The same messages, until they hold too many bytes: not every request says how large it is."""
    received = 0

    async def counted() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > most:
            raise _too_large(most)
        return message

    return counted


def _too_large(most: int) -> HTTPException:
    return HTTPException(413, f"more than {most:,} bytes; send a smaller image")
