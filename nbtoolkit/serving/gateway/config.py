"""The gateway's settings, from the command line and the environment."""

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
    """The gateway cannot start; the message is one sentence for the log."""


@dataclass(frozen=True)
class GatewayConfig:
    """The gateway's settings; times in seconds. The key is not in the repr."""

    mount: Path
    port: int
    key: str = field(repr=False)
    host: str = "0.0.0.0"  # noqa: S104 - the container's ingress connects from outside
    probe_port: int | None = None
    """A second port for the platform's probes, which does not depend on the server that runs."""
    replica: str = "local"
    network_mount: bool = False
    poll_interval: float = 0.5
    """Seconds between two listings of the share for a new pointer."""
    engine_command: tuple[str, ...] = (sys.executable, "-P", "-m", f"{PACKAGE}.engines.transformers")
    keepalive_interval: float = 15.0
    """Seconds without an event after which a stream gets an SSE comment; the ingress cuts after 240."""
    linger: float = 0.0
    """Seconds for which requests are accepted after SIGTERM, until the ingress stops sending them."""
    drain_timeout: float = 30.0
    """Seconds for which running answers may continue after ``linger``."""
    web_ui: bool = True
    """Whether the chat UI is served; without it the server does not need Gradio."""
    heartbeat_interval: float = 5.0
    ready_after: float = 480.0
    """Seconds after which /ready succeeds in any case: the platform drops a revision after about 600."""
    heartbeat_max_age: float = 30.0
    """Seconds after which another replica's heartbeat is ignored."""

    @classmethod
    def read(
        cls, mount: Path, port: int, host: str | None = None, environ: Mapping[str, str] = os.environ
    ) -> GatewayConfig:
        """Complete the command line from the environment; raise GatewayStartRefused for a wrong value."""
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
            raise GatewayStartRefused(f"NBTOOLKIT_PROBE_PORT={probe_port!r} is not a port number.")
        replica = environ.get("CONTAINER_APP_REPLICA_NAME")
        linger = 0.0 if not replica else 3.0 if network else 0.3  # a local ingress reacts at once
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
    """Return whether a folder is on a network file system; False if /proc/mounts cannot be read."""
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
