"""Responses of Azure Files: headers, XML with a byte order mark, errors."""

from __future__ import annotations

import datetime
import os
import stat
import threading
from collections.abc import Mapping
from email.utils import format_datetime
from itertools import count
from xml.sax.saxutils import escape

from .http import Request, Response

SERVER = "Windows-Azure-File/1.0 Microsoft-HTTPAPI/2.0"
SMB_SINCE = "2019-02-02"
"""The first version whose answers carry attributes and times of files."""

MESSAGES = {
    "AuthenticationFailed": "Server failed to authenticate the request. Make sure the value of Authorization "
    "header is formed correctly including the signature.",
    "AuthorizationFailure": "This request is not authorized to perform this operation.",
    "AuthorizationPermissionMismatch": "This request is not authorized to perform this operation using this "
    "permission.",
    "DirectoryNotEmpty": "The specified directory is not empty.",
    "InvalidAuthenticationInfo": "Server failed to authenticate the request. Please refer to the information "
    "in the www-authenticate header.",
    "InvalidHeaderValue": "The value for one of the HTTP headers is not in the correct format.",
    "InvalidRange": "The range specified is invalid for the current size of the resource.",
    "InvalidResourceName": "The specifed resource name contains invalid characters.",
    "KeyBasedAuthenticationNotPermitted": "Key based authentication is not permitted on this storage "
    "account.",
    "Md5Mismatch": "The MD5 value specified in the request did not match with the MD5 value calculated by "
    "the server.",
    "MissingRequiredHeader": "An HTTP header that's mandatory for this request is not specified.",
    "ParentNotFound": "The specified parent path does not exist.",
    "ReadOnlyAttribute": "The specified resource is read-only and cannot be modified at this time.",
    "RequestBodyTooLarge": "The request body is too large and exceeds the maximum permissible limit.",
    "ResourceAlreadyExists": "The specified resource already exists.",
    "ResourceNotFound": "The specified resource does not exist.",
    "ResourceTypeMismatch": "The specified resource type does not match the type of the existing resource.",
    "ShareAlreadyExists": "The specified share already exists.",
    "ShareNotFound": "The specified share does not exist.",
    "ShareSizeLimitReached": "The specified share is full.",
    "UnsupportedHttpVerb": "The resource doesn't support specified Http Verb.",
}

_numbers = count(int.from_bytes(os.urandom(4), "big"))
_lock = threading.Lock()


class StorageError(Exception):
    """A refusal by Azure Files; it becomes an XML error."""

    def __init__(self, status: int, code: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(code)
        self.status, self.code, self.headers = status, code, dict(headers or {})

    def response(self, request: Request) -> Response:
        """The answer; to a HEAD without a body, as recorded."""
        head = {"x-ms-error-code": self.code, **self.headers, **common_headers(request)}
        if request.method == "HEAD":
            return Response(self.status, head, iter(()))
        time = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f0Z")
        message = f"{MESSAGES[self.code]}\nRequestId:{head['x-ms-request-id']}\nTime:{time}"
        body = xml(f"<Error><Code>{self.code}</Code><Message>{escape(message)}</Message></Error>")
        return Response(self.status, {"content-type": "application/xml", **head}, body)


def xml(text: str) -> bytes:
    """Return a document as the service sends it."""
    return f'\ufeff<?xml version="1.0" encoding="utf-8"?>{text}'.encode()


def xml_response(request: Request, text: str, headers: Mapping[str, str] | None = None) -> Response:
    """An XML answer, chunked."""
    head = {"content-type": "application/xml", **(headers or {}), **common_headers(request)}
    return Response(200, head, iter([xml(text)]))


def list_response(request: Request, about: str, tag: str, shown: str, following: str) -> Response:
    """Return one page of a listing with the attributes ``about``; ``following`` marks the next page."""
    asked = "".join(
        f"<{name}>{escape(request.query[key])}</{name}>"
        for key, name in (("prefix", "Prefix"), ("marker", "Marker"), ("maxresults", "MaxResults"))
        if request.query.get(key)
    )
    more = f"<NextMarker>{following}</NextMarker>" if following else "<NextMarker />"
    place = f'ServiceEndpoint="https://{request.host}/"{about}'
    text = f"<EnumerationResults {place}>{asked}<{tag}>{shown}</{tag}>{more}</EnumerationResults>"
    return xml_response(request, text)


def empty_response(request: Request, status: int, headers: Mapping[str, str] | None = None) -> Response:
    """An answer without a body."""
    return Response(status, {**(headers or {}), **common_headers(request)})


def common_headers(request: Request) -> dict[str, str]:
    """The headers of every answer."""
    with _lock:
        number = next(_numbers)
    identity = f"{number & 0xFFFFFFFF:08x}-801a-0034-4c05-066083000000"
    version = request.headers.get("x-ms-version", "2026-10-06")
    return {"server": SERVER, "x-ms-request-id": identity, "x-ms-version": version}


def etag(about: os.stat_result) -> str:
    """Return the ETag of a file; every write and every rename changes it."""
    return f'"0x8D{about.st_ctime_ns // 100:X}{about.st_ino & 0xFFF:03X}"'


def version_headers(about: os.stat_result) -> dict[str, str]:
    """ETag and Last-Modified."""
    modified = datetime.datetime.fromtimestamp(about.st_mtime, datetime.UTC)
    return {"etag": etag(about), "last-modified": format_datetime(modified, usegmt=True)}


def smb_headers(request: Request, about: os.stat_result, attributes: str, parent: int) -> dict[str, str]:
    """Return the headers of newer versions with a file's attributes and times."""
    if request.headers.get("x-ms-version", SMB_SINCE) < SMB_SINCE:
        return {}
    written = file_time(about.st_mtime_ns)
    return {
        "x-ms-file-attributes": attributes,
        "x-ms-file-change-time": file_time(about.st_ctime_ns),
        "x-ms-file-creation-time": written,
        "x-ms-file-id": str(about.st_ino),
        "x-ms-file-last-write-time": written,
        "x-ms-file-parent-id": str(parent),
        "x-ms-file-permission-key": "13199961128260716138*16137673612980802019",
    }


def file_time(ns: int) -> str:
    """A time with the service's seven digits of a second."""
    seconds, rest = divmod(ns, 10**9)
    text = datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{rest // 100:07d}Z"


def list_entry(name: str, about: os.stat_result, attributes: str, include: set[str], extended: bool) -> str:
    """Return one entry of a listing; ``include`` and ``extended`` add properties."""
    folder = stat.S_ISDIR(about.st_mode)
    facts = "" if folder else f"<Content-Length>{about.st_size}</Content-Length>"
    if "timestamps" in include:
        written = file_time(about.st_mtime_ns)
        facts += f"<CreationTime>{written}</CreationTime><LastAccessTime>{written}</LastAccessTime>"
        facts += f"<LastWriteTime>{written}</LastWriteTime>"
        facts += f"<ChangeTime>{file_time(about.st_ctime_ns)}</ChangeTime>"
        facts += f"<Last-Modified>{version_headers(about)['last-modified']}</Last-Modified>"
    if "etag" in include:
        facts += f"<Etag>{escape(etag(about))}</Etag>"
    properties = f"<Properties>{facts}</Properties>" if facts else "<Properties />"
    identity = f"<FileId>{about.st_ino}</FileId>" if extended else ""
    shown = f"<Attributes>{attributes}</Attributes>" if "attributes" in include else ""
    tag = "Directory" if folder else "File"
    return f"<{tag}>{identity}<Name>{escape(name)}</Name>{properties}{shown}</{tag}>"
