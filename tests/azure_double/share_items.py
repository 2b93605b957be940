"""One request about a file or a folder of a share."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from urllib.parse import unquote, urlsplit
from xml.sax.saxutils import escape

from .http import Request, Response
from .share_answers import (
    StorageError,
    common_headers,
    empty_response,
    list_entry,
    list_response,
    smb_headers,
    version_headers,
    xml_response,
)
from .share_content import NORMAL, FileProperties, Share

MAX_RANGE = 4 << 20
PIECE = 1 << 18
PAGE = 5000
"""Default number of entries of a page."""
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
_KEPT_HEADERS = {
    "x-ms-content-type": "content-type",
    "x-ms-content-encoding": "content-encoding",
    "x-ms-content-language": "content-language",
    "x-ms-content-disposition": "content-disposition",
    "x-ms-cache-control": "cache-control",
}


class ItemRequest:
    """Answers for one path of a share."""

    def __init__(self, request: Request, account: str, name: str, share: Share, path: str) -> None:
        self.request = request
        self.account = account
        self.name = name
        self.share = share
        self.path = path

    def answer(self, *, folder: bool) -> Response:
        """Handle the request."""
        comp = self.request.query.get("comp", "")
        operation = (self.request.method, comp)
        match (folder, *operation):
            case _, "PUT", "rename":
                return self._rename(folder=folder)
            case _, "GET" | "HEAD", "metadata":
                return self._properties(folder=folder, only_metadata=True)
            case _, "PUT", "metadata":
                self._stat(folder=folder)
                self.share.file_properties(self.path).metadata = self._sent_metadata()
                return self._changed(200, self._stat(folder=folder))
            case True, "PUT", "":
                self.share.make_folder(self.path)
                self.share.file_properties(self.path).metadata = self._sent_metadata()
                return self._written(201, folder=True)
            case True, "DELETE", "":
                self.share.delete_folder(self.path)
                return empty_response(self.request, 202)
            case True, "GET" | "HEAD", "":
                return self._properties(folder=True)
            case True, "GET", "list":
                return self._list()
            case True, "PUT", "properties":
                return self._written(200, folder=True)
            case False, "PUT", "":
                return self._create()
            case False, "PUT", "range":
                return self._put_range()
            case False, "PUT", "properties":
                return self._set_properties()
            case False, "GET", "":
                return self._download()
            case False, "HEAD", "":
                return self._properties(folder=False)
            case False, "GET", "rangelist":
                return self._range_list()
            case False, "DELETE", "":
                self.share.delete(self.path)
                return empty_response(self.request, 202)
            case _:
                raise StorageError(405, "UnsupportedHttpVerb")

    def _create(self) -> Response:
        size = int(self.request.headers["x-ms-content-length"])
        data = self._body()
        if len(data) > min(size, MAX_RANGE):
            raise StorageError(413, "RequestBodyTooLarge")
        md5 = self._checked_md5(data)
        facts = FileProperties(
            self.request.headers.get("x-ms-file-attributes", NORMAL),
            self._content_headers(),
            self._sent_metadata(),
        )
        self.share.create(self.path, size, facts, data)
        return self._written(201, folder=False, more={"content-md5": md5} if data else {})

    def _put_range(self) -> Response:
        start, end = self._range() or (0, -1)
        if self.request.headers.get("x-ms-write") == "clear":
            return self._changed(201, self.share.clear_range(self.path, start, end))
        self.share.stat(self.path, folder=False)
        data = self._body()
        if len(data) > MAX_RANGE:
            raise StorageError(413, "RequestBodyTooLarge")
        if len(data) != end + 1 - start:
            raise StorageError(400, "InvalidHeaderValue")
        md5 = self._checked_md5(data)
        return self._changed(201, self.share.put_range(self.path, start, data), {"content-md5": md5})

    def _rename(self, *, folder: bool) -> Response:
        headers = self.request.headers
        source = unquote(urlsplit(headers["x-ms-file-rename-source"]).path).strip("/").partition("/")[2]
        self.share.rename(
            source,
            self.path,
            folder=folder,
            replace=headers.get("x-ms-file-rename-replace-if-exists", "").lower() == "true",
            ignore_read_only=headers.get("x-ms-file-rename-ignore-readonly", "").lower() == "true",
        )
        return self._written(200, folder=folder)

    def _set_properties(self) -> Response:
        headers = self.request.headers
        if "x-ms-content-length" in headers:
            self.share.resize(self.path, int(headers["x-ms-content-length"]))
        self._stat(folder=False)
        facts = self.share.file_properties(self.path)
        if headers.get("x-ms-file-attributes", "preserve").lower() != "preserve":
            facts.attributes = headers["x-ms-file-attributes"]
        facts.headers = self._content_headers()
        return self._written(200, folder=False)

    def _download(self) -> Response:
        about = self._stat(folder=False)
        asked = self._range()
        headers = {
            **self._kept_headers(),
            **version_headers(about),
            "accept-ranges": "bytes",
            "x-ms-type": "File",
        }
        headers |= {"x-ms-server-encrypted": "true", **self._attributes(about), **self._described()}
        if asked is None:
            headers["content-length"] = str(about.st_size)
            return Response(200, {**headers, **common_headers(self.request)}, self._pieces(0, about.st_size))
        start, end = asked
        if start >= about.st_size:
            raise StorageError(416, "InvalidRange", {"content-range": f"bytes */{about.st_size}"})
        end = min(end, about.st_size - 1)
        length = end + 1 - start
        headers["content-range"] = f"bytes {start}-{end}/{about.st_size}"
        headers["content-length"] = str(length)
        if self.request.headers.get("x-ms-range-get-content-md5", "").lower() != "true":
            return Response(206, {**headers, **common_headers(self.request)}, self._pieces(start, length))
        if length > MAX_RANGE:
            raise StorageError(400, "InvalidHeaderValue")
        data = b"".join(self._pieces(start, length))
        headers["content-md5"] = _md5(data)
        return Response(206, {**headers, **common_headers(self.request)}, data)

    def _properties(self, *, folder: bool, only_metadata: bool = False) -> Response:
        about = self._stat(folder=folder)
        headers = {**version_headers(about), **self._described()}
        if not only_metadata:
            headers |= {"x-ms-server-encrypted": "true", **self._attributes(about, folder=folder)}
            if not folder:
                headers |= {**self._kept_headers(), "content-length": str(about.st_size), "x-ms-type": "File"}
                headers |= {"x-ms-lease-state": "available", "x-ms-lease-status": "unlocked"}
        return empty_response(self.request, 200, headers)

    def _range_list(self) -> Response:
        about = self._stat(folder=False)
        spans = self.share.file_properties(self.path).written
        ranges = "".join(f"<Range><Start>{a}</Start><End>{b}</End></Range>" for a, b in spans)
        headers = {**version_headers(about), "x-ms-content-length": str(about.st_size)}
        return xml_response(self.request, f"<Ranges>{ranges}</Ranges>", headers)

    def _list(self) -> Response:
        query = self.request.query
        prefix = query.get("prefix", "")
        found = [item for item in self.share.list(self.path) if item[0].startswith(prefix)]
        start = _position(query["marker"]) if query.get("marker") else ""
        found = [item for item in found if item[0].upper() >= start.upper()]
        limit = int(query.get("maxresults", PAGE))
        include = set(query.get("include", "").lower().split(","))
        extended = self.request.headers.get("x-ms-file-extended-info", "").lower() == "true"
        shown = "".join(
            list_entry(name, about, self._shown_attributes(name), include, extended)
            for name, about in found[:limit]
        )
        following = ""
        if len(found) > limit:
            mark = base64.b64encode(found[limit][0].encode()).decode()
            following = f"1!{len(mark)}!{mark}"
        place = f' ShareName="{self.name}" DirectoryPath="{escape(self.path)}"'
        return list_response(self.request, place, "Entries", shown, following)

    def _shown_attributes(self, name: str) -> str:
        return self.share.file_properties(f"{self.path}/{name}".lstrip("/")).attributes

    def _stat(self, *, folder: bool) -> os.stat_result:
        return self.share.stat(self.path, folder=folder)

    def _written(self, status: int, *, folder: bool, more: Mapping[str, str] | None = None) -> Response:
        about = self._stat(folder=folder)
        return self._changed(status, about, {**self._attributes(about, folder=folder), **(more or {})})

    def _changed(self, status: int, about: os.stat_result, more: Mapping[str, str] | None = None) -> Response:
        headers = {**version_headers(about), "x-ms-request-server-encrypted": "true", **(more or {})}
        return empty_response(self.request, status, headers)

    def _attributes(self, about: os.stat_result, *, folder: bool = False) -> dict[str, str]:
        shown = "Directory" if folder else self.share.file_properties(self.path).attributes
        return smb_headers(self.request, about, shown, self.share.parent(self.path))

    def _content_headers(self) -> dict[str, str]:
        sent = self.request.headers
        return {name: sent[header] for header, name in _KEPT_HEADERS.items() if header in sent}

    def _kept_headers(self) -> dict[str, str]:
        return {"content-type": "application/octet-stream", **self.share.file_properties(self.path).headers}

    def _described(self) -> dict[str, str]:
        return {
            f"x-ms-meta-{key}": value for key, value in self.share.file_properties(self.path).metadata.items()
        }

    def _sent_metadata(self) -> dict[str, str]:
        start = "x-ms-meta-"
        return {k.removeprefix(start): v for k, v in self.request.headers.items() if k.startswith(start)}

    def _range(self) -> tuple[int, int] | None:
        text = self.request.headers.get("x-ms-range") or self.request.headers.get("range")
        if not text:
            return None
        found = _RANGE.fullmatch(text)
        if not found:
            raise StorageError(400, "InvalidHeaderValue")
        return int(found[1]), int(found[2]) if found[2] else 1 << 62

    def _body(self) -> bytearray:
        """Read the whole body into memory: an incomplete body is not written."""
        data = bytearray(min(int(self.request.headers.get("content-length") or 0), MAX_RANGE + 1))
        view, filled = memoryview(data), 0
        while filled < len(data) and (count := self.request.body.readinto(view[filled:])):
            filled += count
        return data

    def _checked_md5(self, data: bytearray) -> str:
        md5 = _md5(data)
        if self.request.headers.get("content-md5", md5) != md5:
            raise StorageError(400, "Md5Mismatch")
        return md5

    def _pieces(self, start: int, length: int) -> Iterator[bytes]:
        with (self.share.root / self.path).open("rb", buffering=0) as file:
            file.seek(start)
            while length and (piece := file.read(min(PIECE, length))):
                length -= len(piece)
                yield piece


def _md5(data: bytes | bytearray) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def _position(marker: str) -> str:
    return base64.b64decode(marker.rpartition("!")[2]).decode()
