"""Build a release: base, adapters, tokenizer, engine settings, code and start commands."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import combinations

from nbtoolkit.errors import InvalidSettings
from nbtoolkit.models.adapter import Adapter
from nbtoolkit.models.base_model import Base
from nbtoolkit.models.folder_names import hub_source
from nbtoolkit.releases.tokenizer import tokenizer_in_force
from nbtoolkit.serving import share_layout
from nbtoolkit.serving.adapter_modules import adapted_modules, conflict
from nbtoolkit.serving.release import EngineSettings, Release, ServedAdapter, ServedBase, ServedCode

_NAME = re.compile(r"[^\W_][\w.:/-]{0,99}")
_FIXED_PORT = re.compile(r"export PORT=(\d+) GRADIO_SERVER_PORT=\1")


def build_release(
    base: Base,
    base_path: str,
    adapters: Mapping[str, Adapter],
    engine: EngineSettings,
    code_sha256: str,
    reports: Mapping[str, str] | None = None,
    override_reason: str | None = None,
    wheels_sha256: str | None = None,
    share_paths: Mapping[str, str] | None = None,
) -> Release:
    """Return the release that serves ``adapters`` by public name on ``base``.

    ``base_path`` is the base's folder for the server, absolute or relative to the mount; ``reports`` maps an
    adapter's name to its smoke report's sha256, ``share_paths`` to the folder of an adapter that is already
    on the share. If the adapters' tokenizer or chat template differs from the base's, theirs is served, and
    all adapters must agree on it. Reads every adapter once for its sha256. Raises :class:`InvalidSettings`
    and :class:`InvalidAdapter`.
    """
    sha256_by_name = dict(reports or {})
    _check_names(base, adapters)
    if stray := sorted(sha256_by_name.keys() - adapters.keys()):
        raise InvalidSettings(
            f"There is a smoke report for {stray[0]!r}, which is not an adapter of this release.",
            next_step=f"name it as one of: {', '.join(adapters) or 'none'}",
        )
    served = {
        name: ServedAdapter(
            name=name,
            path=(share_paths or {}).get(name) or share_layout.adapter_path(adapter.sha256),
            sha256=adapter.sha256,
            rank=adapter.rank,
            modules=adapted_modules(adapter.config, adapter.tensors),
            source=hub_source(adapter.path),
        )
        for name, adapter in sorted(adapters.items())
    }
    _check_contents(served)
    folders = {name: (adapter.path, served[name].path) for name, adapter in sorted(adapters.items())}
    return Release(
        base=ServedBase(name=base.name, path=base_path, sha256=base.sha256),
        adapters=tuple(served.values()),
        tokenizer=tokenizer_in_force(base.path, base_path, folders),
        engine=engine,
        code=ServedCode(sha256=code_sha256, wheels_sha256=wheels_sha256),
        reports=dict(sorted(sha256_by_name.items())),
        override_reason=(override_reason or "").strip() or None,
    )


def _check_names(base: Base, adapters: Mapping[str, Adapter]) -> None:
    for name in (base.name, *adapters):
        if not _NAME.fullmatch(name):
            raise InvalidSettings(
                f"{name!r} cannot be a public model name.",
                next_step="use at most 100 letters, digits and . _ : / - and start with a letter or digit; "
                "an adapter's name can be given, as in adapters={'my-adapter': 'folder'}",
            )
    if base.name in adapters:
        raise InvalidSettings(
            f"An adapter has the base model's public name {base.name!r}: requests cannot distinguish them.",
            next_step="give the adapter another name, as in adapters={'my-adapter': ...}",
        )


def _check_contents(served: Mapping[str, ServedAdapter]) -> None:
    names: dict[str, str] = {}
    for name, adapter in served.items():
        first = names.setdefault(adapter.sha256, name)
        if first != name:
            raise InvalidSettings(
                f"{first!r} and {name!r} are the same adapter, byte for byte ({adapter.sha256[:16]}).",
                next_step="serve it under one name, or check that the right folders were given",
            )
    for one, other in combinations(served.values(), 2):
        if reason := conflict(one.modules, other.modules):
            raise InvalidSettings(
                f"One engine cannot hold {one.name!r} and {other.name!r} side by side: {reason}.",
                next_step="serve them in two deployments, or train them with the same modules",
            )


def with_fixed_port(commands: Sequence[str], port: int | None) -> tuple[str, ...]:
    """Return commands that first export the port; with None the server gets a free port."""
    first = () if port is None else (f"export PORT={port} GRADIO_SERVER_PORT={port}",)
    return (*first, *commands)


def fixed_port(commands: Sequence[str]) -> int | None:
    """Return the port that :func:`with_fixed_port` wrote into commands, None without one."""
    match = _FIXED_PORT.fullmatch(commands[0]) if commands else None
    return int(match[1]) if match else None
