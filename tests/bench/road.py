"""A served demo model for the benchmarks."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from nbtoolkit import Deployment, DeploySettings, LocalTarget, Workspace, demo, deploy

WHY = "a benchmark: speed is measured, not answers"


def base_folder() -> Path:
    """Return the demo's base model, unpacked once in this checkout."""
    return demo.base_model(Workspace.find(Path(__file__).parent))


def talkative_adapter(folder: Path) -> Path:
    """Copy the demo adapter with a twentieth of its strength, so that answers are as long as asked for.

    It costs the server exactly what the real one costs.
    """
    target = folder / "talkative"
    shutil.copytree(demo.adapter("tone-emotion"), target)
    config = json.loads((target / "adapter_config.json").read_text())
    config["lora_alpha"] = config["lora_alpha"] / 20
    (target / "adapter_config.json").write_text(json.dumps(config))
    return target


def settings(adapters: dict[str, Path], **more: object) -> DeploySettings:
    """Deploy settings without a smoke report: the demo's reports are made elsewhere."""
    return DeploySettings(adapters=adapters, base=str(base_folder()), override_reason=WHY, keep=False, **more)


@contextmanager
def served(
    folder: Path, adapters: dict[str, Path], **more: object
) -> Iterator[tuple[LocalTarget, Deployment]]:
    """Serve adapters from a fresh workspace in ``folder``; stop the server at the end."""
    (folder / "infra").mkdir(parents=True, exist_ok=True)
    target = LocalTarget(Workspace(folder))
    try:
        yield target, deploy(settings(adapters, **more), target=target)
    finally:
        target.stop()


@contextmanager
def baseline(base: Path, adapter: Path, port: int, dtype: str) -> Iterator[str]:
    """Run the baseline server in a process of its own; yield its URL."""
    arguments = [str(base), str(adapter), str(port), dtype]
    process = subprocess.Popen([sys.executable, "-m", "tests.bench.baseline", *arguments])
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                httpx.get(f"{url}/health").raise_for_status()
                break
            except httpx.HTTPError:
                time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait()
