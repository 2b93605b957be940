"""A served demo model for the benchmarks."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from nbtoolkit import Deployment, DeploySettings, LocalTarget, Workspace, demo, deploy, smoke_test
from tests.support.processes import free_port

WHY = "a benchmark: speed is measured, not answers"


def base_folder() -> Path:
    """Return the demo's base model, unpacked once in this checkout."""
    return demo.base_model(Workspace.find(Path(__file__).parent))


def talkative_adapter(folder: Path) -> Path:
    """Copy the demo adapter with a twentieth of its strength, so that answers reach ``max_tokens``.

    It costs the server exactly what the real one costs.
    """
    target = folder / "talkative"
    shutil.copytree(demo.adapter("tone-emotion"), target)
    config = json.loads((target / "adapter_config.json").read_text())
    config["lora_alpha"] = config["lora_alpha"] / 20
    (target / "adapter_config.json").write_text(json.dumps(config))
    return target


def settings(adapters: dict[str, Path], **more: object) -> DeploySettings:
    """Return settings that accept a weakened adapter without a report; a green report is still used."""
    return DeploySettings(adapters=adapters, base=str(base_folder()), override_reason=WHY, keep=False, **more)


def with_reports(root: Path, *names: str) -> Workspace:
    """Create a workspace with green smoke reports of demo adapters, so that swaps are proven."""
    (root / "infra").mkdir(parents=True, exist_ok=True)
    workspace = Workspace(root)
    for name in names:
        wanted = settings({name: demo.adapter(name)})
        smoke_test(wanted.smoke_settings()[0], workspace=workspace).raise_for_failure()
    return workspace


@contextmanager
def served(workspace: Workspace, adapters: dict[str, Path]) -> Iterator[tuple[LocalTarget, Deployment]]:
    """Serve adapters from a workspace; stop the server at the end."""
    target = LocalTarget(workspace)
    try:
        yield target, deploy(settings(adapters), target=target)
    finally:
        target.stop()


@contextmanager
def baseline(base: Path, adapter: Path, dtype: str) -> Iterator[str]:
    """Run the baseline server in a process of its own, with torch's own number of threads; yield its URL."""
    port = free_port()
    arguments = [str(base), str(adapter), str(port), dtype]
    process = subprocess.Popen([sys.executable, "-m", "tests.bench.baseline", *arguments])
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            if process.poll() is not None:
                raise RuntimeError(f"the baseline server ended with {process.returncode}")
            with suppress(httpx.HTTPError):
                httpx.get(f"{url}/health").raise_for_status()
                break
            time.sleep(0.2)
        else:
            raise TimeoutError("the baseline server was not ready within 120 s")
        yield url
    finally:
        process.terminate()
        process.wait()
