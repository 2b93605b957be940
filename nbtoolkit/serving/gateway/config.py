"""What a front is told at its start."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

PACKAGE = (__package__ or "").rpartition(".")[0]
"""``nbtoolkit.serving`` in a checkout, ``serving`` on a share."""

NETWORK_FILESYSTEMS = frozenset(
    {"9p", "ceph", "cifs", "fuse.blobfuse2", "fuse.sshfs", "lustre", "nfs", "nfs4", "smb3", "smbfs"}
)


class GatewayStartRefused(ValueError):
    """The front cannot start; the text is one clear sentence for the log."""


@dataclass(frozen=True)
class GatewayConfig:
    """Everything that a front needs; times in seconds. The key never shows in the repr."""

    mount: Path
    port: int
    key: str = field(repr=False)
    host: str = "0.0.0.0"  # noqa: S104 - a container's ingress comes from outside
    probe_port: int | None = None
    """A second port, where the platform asks for health whatever server runs."""
    replica: str = "local"
    network_mount: bool = False
    poll_interval: float = 0.5
    """How often the share is listed for a new pointer."""
    engine_command: tuple[str, ...] = (sys.executable, "-P", "-m", f"{PACKAGE}.engines.transformers")
    keepalive_interval: float = 15.0
    """A stream without news gets an SSE comment this often; the ingress cuts after 240 idle seconds."""
    linger: float = 0.0
    """How long requests are still taken after SIGTERM: an ingress learns of it later than we do."""
    drain_timeout: float = 30.0
    """How long running answers may go on after that."""
    web_ui: bool = True
    """Whether people get a chat page; without one the server needs no Gradio."""
    heartbeat_interval: float = 5.0
    ready_after: float = 480.0
    """Readiness is granted anyway by then: the platform gives a revision up after about 600."""
    heartbeat_max_age: float = 30.0
    """A heartbeat older than this says nothing about its replica."""

    @classmethod
    def read(
        cls, mount: Path, port: int, host: str | None = None, environ: Mapping[str, str] = os.environ
    ) -> GatewayConfig:
        """Complete the command line from the environment; raise StartRefused where something is missing."""
        if not mount.is_dir():
            raise GatewayStartRefused(f"--mount {mount} is not a folder; mount the share there or create it.")
        network = on_network(mount)
        poll = environ.get("NBTOOLKIT_POLL") or ("2" if network else "0.5")
        try:
            seconds = float(poll)
        except ValueError:
            seconds = 0.0
        if not 0 < seconds < 3600:
            raise GatewayStartRefused(
                f"NBTOOLKIT_POLL={poll!r} is not a number of seconds between 0 and 3600."
            )
        probe_port = environ.get("NBTOOLKIT_PROBE_PORT") or ""
        if probe_port and not probe_port.isdecimal():
            raise GatewayStartRefused(f"NBTOOLKIT_PROBE_PORT={probe_port!r} is no port.")
        replica = environ.get("CONTAINER_APP_REPLICA_NAME")
        linger = 0.0 if not replica else 3.0 if network else 0.3  # an ingress on this very machine is quick
        replica = replica or "local"
        return cls(
            mount=mount.resolve(),
            port=port,
            key=read_key(environ),
            host=host or environ.get("NBTOOLKIT_BIND") or cls.host,
            probe_port=int(probe_port) if probe_port else None,
            replica=re.sub(r"[^A-Za-z0-9._-]", "-", replica).lstrip(".") or "local",
            network_mount=network,
            poll_interval=seconds,
            linger=linger,
        )


def read_key(environ: Mapping[str, str]) -> str:
    """Return the API key from NBTOOLKIT_API_KEY or the file that NBTOOLKIT_API_KEY_FILE names."""
    key = environ.get("NBTOOLKIT_API_KEY", "").strip()
    name = environ.get("NBTOOLKIT_API_KEY_FILE", "")
    if not key and name:
        try:
            key = Path(name).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise GatewayStartRefused(f"NBTOOLKIT_API_KEY_FILE={name} cannot be read: {error}.") from None
        if not key:
            raise GatewayStartRefused(f"NBTOOLKIT_API_KEY_FILE={name} is empty; write the API key into it.")
    if not key:
        raise GatewayStartRefused(
            "No API key: set NBTOOLKIT_API_KEY, or NBTOOLKIT_API_KEY_FILE to a file that holds it. "
            "An open server is never started."
        )
    return key


def on_network(folder: Path, mounts: Path = Path("/proc/mounts")) -> bool:
    """Tell whether a folder lies on a network file system; False where the system does not say."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    resolved = folder.resolve()
    best, kind = -1, ""
    for line in lines:
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[1]))
        if len(point.parts) >= best and resolved.is_relative_to(point):
            best, kind = len(point.parts), fields[2]
    return kind in NETWORK_FILESYSTEMS
