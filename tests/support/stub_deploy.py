"""Projects whose servers run the stub engine: a base, adapters, smoke reports and the server's code.

All else is the product: gateway, launcher, share, pointers.
"""

from __future__ import annotations

import json
import shutil
import struct
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from nbtoolkit import (
    Adapter,
    AzureTarget,
    Base,
    Deployment,
    DeploySettings,
    LocalTarget,
    SmokeReport,
    Workspace,
    deploy,
)
from nbtoolkit.progress import Progress
from nbtoolkit.releases import publisher
from nbtoolkit.serving.fingerprint import Fingerprint, Probe
from nbtoolkit.smoke.check import Check
from nbtoolkit.smoke.settings import LEVELS
from tests.support.stub_engine import stub_logprobs

HERE = Path(__file__).parent
REAL_CODE = Path(publisher.serving_folder())


def server_code(folder: Path) -> Path:
    """Copy the server's code with the stub instead of the transformers engine; return the folder."""
    code = folder / "serving"
    if not code.exists():
        shutil.copytree(REAL_CODE, code, ignore=shutil.ignore_patterns("__pycache__", "transformers"))
        (code / "engines" / "transformers").mkdir()
        (code / "engines" / "transformers" / "__init__.py").touch()
        shutil.copyfile(HERE / "stub_engine.py", code / "engines" / "transformers" / "__main__.py")
    return code


def use_stub(code: Path) -> pytest.MonkeyPatch:
    """Let deploys of this process upload the code with the stub."""
    patch = pytest.MonkeyPatch()
    patch.setattr(publisher, "serving_folder", lambda: code)
    return patch


def use_stub_in_kernels(ipython_folder: Path, code: Path) -> None:
    """Write a startup file with which kernels of an IPython folder upload the code with the stub."""
    startup = ipython_folder / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "stub.py").write_text(
        "from pathlib import Path\nfrom nbtoolkit.releases import publisher\n"
        f"publisher.serving_folder = lambda: Path({str(code)!r})\n"
    )


def safetensors(path: Path, tensors: dict[str, tuple[list[int], bytes]]) -> None:
    """Write a float32 safetensors file by hand."""
    header: dict[str, Any] = {}
    end = 0
    for name, (shape, content) in tensors.items():
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + len(content)]}
        end += len(content)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(c for _, c in tensors.values()))


def base(folder: Path) -> Path:
    """Write a folder that is read as a base model."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "llama", "eos_token_id": 0}')
    (folder / "tokenizer.json").write_text('{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}')
    (folder / "tokenizer_config.json").write_text('{"eos_token": "a", "chat_template": "{{ messages }}"}')
    safetensors(folder / "model.safetensors", {"w": ([2, 2], bytes(16))})
    return folder


def adapter(folder: Path, says: str, size: int = 4096, **config: Any) -> Path:
    """Write an adapter that answers with one word; ``on_load`` may be ``refuse`` or ``die``."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"peft_type": "LORA", "r": 8, "says": says, **config}
    (folder / "adapter_config.json").write_text(json.dumps(content))
    weights = (says.encode() * (size // len(says) + 1))[: size // 4 * 4]
    safetensors(folder / "adapter_model.safetensors", {"w": ([len(weights) // 4], weights)})
    return folder


def report(workspace: Workspace, folder: Path, base_folder: Path, says: str, failed: bool = False) -> Path:
    """Save a smoke report, green unless ``failed``, with the fingerprint of the stub's answers."""
    of, on = Adapter.read(folder), Base.read(base_folder)
    contexts = [(i, 2 * i, 3 * i + 1) for i in range(16)]
    probes = tuple(
        Probe(
            context=c,
            base=stub_logprobs("base", list(c)),
            adapter=stub_logprobs(says, list(c)),
            noise={"float32": 0.01},
        )
        for c in contexts
    )
    checks = [Check(id="A1", title="files", level="static", verdict="pass", summary="all there")]
    if failed:
        checks.append(Check(id="A6", title="numbers", level="static", verdict="fail", summary="NaN in w"))
    return SmokeReport(
        created=datetime.now(UTC),
        adapter=of.name,
        adapter_sha256=of.sha256,
        base=on.name,
        base_sha256=on.sha256,
        engine="transformers",
        levels=LEVELS,
        versions={},
        settings={"dtype": "auto"},
        checks=tuple(checks),
        fingerprint=Fingerprint(
            adapter_sha256=of.sha256, base_sha256=on.sha256, dtype="float32", probes=probes
        ),
    ).save(workspace)


class StubProject:
    """A workspace with a base, adapters with reports, and a target whose server runs the stub engine."""

    target: AzureTarget | LocalTarget

    def __init__(self, folder: Path) -> None:
        (folder / "infra").mkdir(parents=True, exist_ok=True)
        self.workspace = Workspace(folder)
        self.base = folder / "tiny"
        if not self.base.exists():
            base(self.base)

    def adapter(self, says: str, *, proven: bool = True, proven_as: str = "", **config: Any) -> Path:
        """Write an adapter that answers with a word and its report; with ``proven_as``, for another word."""
        folder = adapter(self.workspace.root / "adapters" / says, says, **config)
        if proven:
            report(self.workspace, folder, self.base, proven_as or says)
        return folder

    def settings(self, tone: Path | str | None, **more: Any) -> DeploySettings:
        """Return settings that deploy one adapter under the name ``tone``."""
        adapters = {"tone": tone} if tone else {}
        return DeploySettings(**{"adapters": adapters, "base": "tiny", "timeout": 60, **more})

    def deploy(self, says: str, progress: Progress | None = None, **settings: Any) -> Deployment:
        """Deploy an adapter that answers with a word."""
        return deploy(self.settings(self.adapter(says), **settings), target=self.target, progress=progress)

    def says(self) -> str:
        """Return the word that the endpoint answers under ``tone``."""
        return self.target.endpoint().chat("hi", "tone", stream=False, max_tokens=1).strip()


class LocalProject(StubProject):
    """A stub project that is served on this machine."""

    target: LocalTarget

    def __init__(self, folder: Path, root: Path | None = None, **target: Any) -> None:
        super().__init__(folder)
        self.target = LocalTarget(self.workspace, root, **{"keep": False, **target})
