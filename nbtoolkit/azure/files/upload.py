"""Upload a file to a share: under a temporary name, verified by MD5, then renamed."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from nbtoolkit.azure.files.client import ShareConnection
from nbtoolkit.azure.files.concurrency import UPLOAD_MEMORY
from nbtoolkit.azure.files.range_upload import upload_ranges
from nbtoolkit.azure.files.upload_session import UploadSession
from nbtoolkit.filestore import chunked_io as streams
from nbtoolkit.filestore import temp_files as temp_names
from nbtoolkit.filestore.chunked_io import CHUNK, Source
from nbtoolkit.progress import Sent

if TYPE_CHECKING:
    from azure.storage.fileshare import ShareClient

    from nbtoolkit.azure.files.retry_policy import RetryState


def upload_file(
    access: ShareConnection, path: str, source: Source, sha256: str | None, overwrite: bool, sent: Sent | None
) -> str:
    """Write a file and return its sha256; see :meth:`AzureShare.write`."""
    writer = UploadSession(access, path, sent)
    size = _size(source, path)
    if size > CHUNK:
        return upload_ranges(writer, source, size, sha256, overwrite=overwrite)
    writer.reserve(size)
    try:
        content = io.BytesIO()
        found = streams.copy(source, content, name=path, expected=sha256)
        data = content.getvalue()
        if len(data) > CHUNK:  # it grew after its size was read
            return upload_ranges(writer, data, len(data), sha256, overwrite=overwrite)
        _upload_small(writer, data, overwrite)
    finally:
        UPLOAD_MEMORY.release(size)
    return found


def _upload_small(writer: UploadSession, data: bytes, overwrite: bool) -> None:
    """Create a small file with its content in one request, and rename it in another.

    Azure does not document that the first request is atomic, so it never creates the final name.
    """
    temporary = writer.sibling(temp_names.temp_name())

    def create(share: ShareClient, state: RetryState) -> None:
        file = share.get_file_client(temporary)
        file.create_file(len(data), data=data or None, validate_content="md5", retry_state=state)

    try:
        writer.call(create)
        writer.rename(temporary, writer.path, overwrite=overwrite)
    except BaseException:
        writer.remove_temporary(temporary)
        raise
    writer.sent(len(data))


def _size(source: Source, path: str) -> int:
    try:
        return streams.size(source)
    except OSError as error:
        raise streams.unreadable(path, source, error) from error
