"""A file on its way to a share: under a temporary name, checked by MD5, then renamed."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from nbtoolkit.azure.files.client import ShareAccess
from nbtoolkit.azure.files.concurrency import BUDGET
from nbtoolkit.azure.files.range_upload import write_ranges
from nbtoolkit.azure.files.upload_session import Writer
from nbtoolkit.filestore import chunked_io as streams
from nbtoolkit.filestore import temp_files as temp_names
from nbtoolkit.filestore.chunked_io import CHUNK, Source
from nbtoolkit.progress import Sent

if TYPE_CHECKING:
    from azure.storage.fileshare import ShareClient

    from nbtoolkit.azure.files.retry_policy import RetryState


def write(
    access: ShareAccess, path: str, source: Source, sha256: str | None, overwrite: bool, sent: Sent | None
) -> str:
    """Write a file and return its sha256; see :meth:`AzureShare.write`."""
    writer = Writer(access, path, sent)
    size = _size(source, path)
    if size > CHUNK:
        return write_ranges(writer, source, size, sha256, overwrite=overwrite)
    writer.reserve(size)
    try:
        content = io.BytesIO()
        found = streams.copy(source, content, name=path, expected=sha256)
        data = content.getvalue()
        if len(data) > CHUNK:  # it grew meanwhile
            return write_ranges(writer, data, len(data), sha256, overwrite=overwrite)
        _write_whole(writer, data, overwrite)
    finally:
        BUDGET.give_back(size)
    return found


def _write_whole(writer: Writer, data: bytes, overwrite: bool) -> None:
    """Create a small file with its content in one request, and give it its name in another.

    That the first is never carried out in part is nowhere promised, so it never creates the name itself.
    """
    temporary = writer.beside(temp_names.new())

    def create(share: ShareClient, tries: RetryState) -> None:
        file = share.get_file_client(temporary)
        file.create_file(len(data), data=data or None, validate_content="md5", tries=tries)

    try:
        writer.ask(create)
        writer.rename(temporary, writer.path, overwrite=overwrite)
    except BaseException:
        writer.remove(temporary)
        raise
    writer.sent(len(data))


def _size(source: Source, path: str) -> int:
    try:
        return streams.size(source)
    except OSError as error:
        raise streams.unreadable(path, source, error) from error
