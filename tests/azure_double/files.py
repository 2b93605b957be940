"""Azure Files on loopback: every storage account's data plane, its shares as plain folders."""

from __future__ import annotations

import re
import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote
from xml.sax.saxutils import escape

from .http import Request, Response
from .share_answers import StorageError, empty_response, list_response, version_headers, xml_response
from .share_auth import Account, check
from .share_content import GIB, Share
from .share_items import ItemRequest

if TYPE_CHECKING:
    from .double import AzureDouble

SUFFIX = ".file.core.windows.net"
_SHARE_NAME = re.compile(r"(?!.*--)[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")


class Files:
    """Storage accounts and their shares, created by the control plane and by tests."""

    def __init__(self, double: AzureDouble) -> None:
        self.root = double.root / "shares"
        self.accounts: dict[str, Account] = {}
        self._shares: dict[tuple[str, str], Share] = {}
        self._tokens = double.tokens
        self._lock = threading.RLock()

    def create_account(self, name: str) -> Account:
        """Create an account, or return the existing one."""
        with self._lock:
            return self.accounts.setdefault(name, Account(name))

    def remove_account(self, name: str) -> None:
        """Remove an account with its shares."""
        with self._lock:
            self.accounts.pop(name, None)
            for account, share in [key for key in self._shares if key[0] == name]:
                self.remove_share(account, share)

    def create_share(self, account: str, name: str, quota: int = 5120) -> Share:
        """Create a share, or return the existing one."""
        with self._lock:
            self.create_account(account)
            key = (account, name)
            if key not in self._shares:
                self._shares[key] = Share(self.folder(account, name), quota)
            return self._shares[key]

    def remove_share(self, account: str, name: str) -> bool:
        """Remove a share with its content; return whether it existed."""
        with self._lock:
            found = self._shares.pop((account, name), None)
            if found:
                shutil.rmtree(found.root, ignore_errors=True)
            return found is not None

    def share(self, account: str, name: str) -> Share | None:
        """Return a share, None if it does not exist."""
        return self._shares.get((account, name))

    def shares(self, account: str) -> dict[str, Share]:
        """Return an account's shares by name."""
        with self._lock:
            return {
                share: found for (owner, share), found in sorted(self._shares.items()) if owner == account
            }

    def folder(self, account: str, share: str) -> Path:
        """Return the folder with a share's content."""
        return self.root / account / share

    def handle(self, request: Request) -> Response:
        """Answer one request of the data plane."""
        account = self.accounts.get(request.host.removesuffix(SUFFIX))
        if account is None:
            return Response(reset=True)  # such a host has no address
        try:
            check(request, account, self._tokens)
            share, _, path = unquote(request.path.strip("/")).partition("/")
            if not share:
                return self._list_shares(request, account.name)
            kind = request.query.get("restype")
            if kind == "share":
                return self._share(request, account.name, share)
            found = self.share(account.name, share)
            if found is None:
                raise StorageError(404, "ShareNotFound")
            return ItemRequest(request, account.name, share, found, path).answer(folder=kind == "directory")
        except StorageError as error:
            request.body.drain()
            return error.response(request)

    def _share(self, request: Request, account: str, name: str) -> Response:
        comp = request.query.get("comp", "")
        if not _SHARE_NAME.fullmatch(name):
            raise StorageError(400, "InvalidResourceName")
        if request.method == "PUT" and not comp:
            return self._create_share(request, account, name)
        share = self.share(account, name)
        if share is None:
            raise StorageError(404, "ShareNotFound")
        facts = version_headers(share.root.stat())
        described = {f"x-ms-meta-{key}": value for key, value in share.metadata.items()}
        match request.method, comp:
            case "DELETE", "":
                self.remove_share(account, name)
                return empty_response(request, 202)
            case "GET" | "HEAD", "":
                return empty_response(
                    request, 200, {**facts, "x-ms-share-quota": str(share.quota), **described}
                )
            case "GET" | "HEAD", "metadata":
                return empty_response(request, 200, {**facts, **described})
            case "PUT", "metadata":
                share.metadata = metadata(request)
                return empty_response(request, 200, facts)
            case "PUT", "properties":
                share.quota = int(request.headers.get("x-ms-share-quota", share.quota))
                return empty_response(request, 200, facts)
            case "GET", "stats":
                used = -(-share.used() // GIB) * GIB
                return xml_response(
                    request, f"<ShareStats><ShareUsageBytes>{used}</ShareUsageBytes></ShareStats>"
                )
            case _:
                raise StorageError(405, "UnsupportedHttpVerb")

    def _create_share(self, request: Request, account: str, name: str) -> Response:
        with self._lock:
            if self.share(account, name):
                raise StorageError(409, "ShareAlreadyExists")
            share = self.create_share(account, name, int(request.headers.get("x-ms-share-quota", 5120)))
            share.metadata = metadata(request)
        return empty_response(request, 201, version_headers(share.root.stat()))

    def _list_shares(self, request: Request, account: str) -> Response:
        prefix, marker = request.query.get("prefix", ""), request.query.get("marker", "")
        found = {name: share for name, share in self.shares(account).items() if name.startswith(prefix)}
        names = [name for name in found if f"/{account}/{name}" >= marker]
        limit = int(request.query.get("maxresults", 5000))
        shown = "".join(_listed(name, found[name], request) for name in names[:limit])
        following = f"/{account}/{names[limit]}" if len(names) > limit else ""
        return list_response(request, "", "Shares", shown, following)


def metadata(request: Request) -> dict[str, str]:
    """Return the metadata that a request sets."""
    start = "x-ms-meta-"
    return {k.removeprefix(start): v for k, v in request.headers.items() if k.startswith(start)}


def _listed(name: str, share: Share, request: Request) -> str:
    facts = version_headers(share.root.stat())
    text = f"<Last-Modified>{facts['last-modified']}</Last-Modified><Etag>{facts['etag']}</Etag>"
    text = f"<Name>{name}</Name><Properties>{text}<Quota>{share.quota}</Quota></Properties>"
    if "metadata" in request.query.get("include", "") and share.metadata:
        inner = "".join(f"<{key}>{escape(value)}</{key}>" for key, value in share.metadata.items())
        text += f"<Metadata>{inner}</Metadata>"
    return f"<Share>{text}</Share>"


def install(double: AzureDouble) -> Files:
    """Let the double answer for all storage accounts' files."""
    files = Files(double)
    double.route(r"[a-z0-9]{3,24}" + re.escape(SUFFIX), files.handle)
    return files
