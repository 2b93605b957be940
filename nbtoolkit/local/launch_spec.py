"""Build the launch specification of a release's server on this machine."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping

from nbtoolkit.local import custom_server, log
from nbtoolkit.local.environment import HOST, HUB_TOKENS, clean_environment, ensure_api_key, secret_values
from nbtoolkit.local.launcher import LaunchSpec
from nbtoolkit.local.state_files import StateFiles
from nbtoolkit.progress import Progress
from nbtoolkit.serving import share_layout
from nbtoolkit.serving.release import Release

REPLICA = "local"
POLL = "0.5"
"""Seconds between two polls of the server for a new release."""


def launch_spec_for(
    files: StateFiles,
    release: Release,
    extra: Mapping[str, str],
    progress: Progress,
    *,
    log_bytes: int = log.FILE_BYTES,
) -> Callable[[int], LaunchSpec]:
    """Return a function that maps a port to the specification; ``extra`` is added to the environment."""
    build = _custom if release.code.kind == "own" else _built_in
    command_for, env = build(files, release, progress)
    env = {**env, "PYTHONUNBUFFERED": "1", **extra}
    secrets = [ensure_api_key(files.key), *secret_values(env)]

    def spec(port: int) -> LaunchSpec:
        return LaunchSpec(
            command=command_for(port),
            cwd=str(files.work),
            env={"PORT": str(port), "GRADIO_SERVER_PORT": str(port), **env},
            kind=release.code.kind,
            port=port,
            code=release.code.sha256,
            secrets=secrets,
            log_bytes=log_bytes,
            log_files=log.OLD_FILES,
        )

    return spec


_CommandAndEnvironment = tuple[Callable[[int], list[str]], dict[str, str]]


def _built_in(files: StateFiles, release: Release, _: Progress) -> _CommandAndEnvironment:
    """Run the share's copy of nbtoolkit's server, like the container, without this checkout."""
    program = [sys.executable, "-P", "-m", share_layout.CODE_PACKAGE, "--mount", str(files.share), "--port"]
    env = clean_environment() | {
        "PYTHONPATH": str(files.share / share_layout.code_path(release.code.sha256)),
        "PYTHONDONTWRITEBYTECODE": "1",  # the folder's name is the hash of its content
        "NBTOOLKIT_API_KEY_FILE": str(files.key),
        "NBTOOLKIT_BIND": HOST,
        "NBTOOLKIT_POLL": POLL,
        "CONTAINER_APP_REPLICA_NAME": REPLICA,
    }
    return lambda port: [*program, str(port)], env


def _custom(files: StateFiles, release: Release, progress: Progress) -> _CommandAndEnvironment:
    """Run the start commands in one shell, with a virtual environment that they may install packages into."""
    commands = custom_server.replace_mount(release.code.commands, files.share)
    programs = custom_server.create_environment(files.root / "own-python", progress)
    env = clean_environment(keep=HUB_TOKENS)
    env |= {
        "PATH": f"{programs}:{env.get('PATH', '')}",
        "NBTOOLKIT_MOUNT": str(files.share),
        "GRADIO_SERVER_NAME": HOST,
    }
    return lambda _: [custom_server.shell(), "-c", custom_server.start_script(commands)], env
