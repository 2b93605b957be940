"""A base model whose weights lie elsewhere: described by its small files and a few pieces of the weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from nbtoolkit.errors import BrokenFile, InvalidBase
from nbtoolkit.models.base_model import Base
from nbtoolkit.models.base_model_files import CONFIG, GENERATION, base_identity, sampled_sha256, weight_names
from nbtoolkit.models.safetensors_header import TensorInfo, parse_header
from nbtoolkit.utils.json_file import read_object


def describe_remote_base(
    folder: Path, sizes: Mapping[str, int], read: Callable[[str, int, int], bytes]
) -> Base:
    """Return the base model of which only the small files are in ``folder``.

    ``sizes`` are the bytes of all its files by name and ``read`` reads a range of one. ``sha256`` is what the
    whole folder would have; ``weights`` are none, so it can be served where it lies and not sent. Costs some
    twenty reads for each weight file. Raises :class:`InvalidBase`.
    """
    tensors: dict[str, TensorInfo] = {}
    samples: list[tuple[str, int, str]] = []
    try:
        config = read_object(folder / CONFIG)
        generation = read_object(folder / GENERATION) if (folder / GENERATION).is_file() else {}
        for name in weight_names(folder, sizes.keys()):

            def part(offset: int, length: int, name: str = name) -> bytes:
                return read(name, offset, length)

            header = parse_header(folder / name, sizes[name], part)
            tensors.update(header.tensors)
            samples.append((name, sizes[name], sampled_sha256(header, part)))
    except BrokenFile as error:
        raise InvalidBase(
            f"The base model {folder.name}: {error.message}", next_step=error.next_step, path=folder
        ) from error
    base = Base(folder, folder.name, config, generation, MappingProxyType(tensors), ())
    base.__dict__["sha256"] = base_identity(folder, samples)  # the place where cached_property keeps it
    return base
