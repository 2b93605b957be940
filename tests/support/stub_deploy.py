"""A base, adapters and smoke reports for deploys whose engine is the stub, and the server code with it.

Everything between the settings and the engine is the product's: gateway, launcher, share, pointers.
"""

from __future__ import annotations

import json
import shutil
import struct
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from nbtoolkit import Adapter, Base, DeploySettings, LocalTarget, SmokeReport, Workspace
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
    """Make deploys of this process upload the code with the stub."""
    patch = pytest.MonkeyPatch()
    patch.setattr(publisher, "serving_folder", lambda: code)
    return patch


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
    """Write a base model's folder that reads as one."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "llama", "eos_token_id": 0}')
    (folder / "tokenizer.json").write_text('{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}')
    (folder / "tokenizer_config.json").write_text('{"eos_token": "a", "chat_template": "{{ messages }}"}')
    safetensors(folder / "model.safetensors", {"w": ([2, 2], bytes(16))})
    return folder


def adapter(folder: Path, says: str, size: int = 4096, **knobs: Any) -> Path:
    """Write an adapter whose answers are its word; ``on_load`` may be ``refuse`` or ``die``."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"peft_type": "LORA", "r": 8, "says": says, **knobs}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    content = (says.encode() * (size // len(says) + 1))[: size // 4 * 4]
    safetensors(folder / "adapter_model.safetensors", {"w": ([len(content) // 4], content)})
    return folder


def report(workspace: Workspace, folder: Path, base_folder: Path, says: str, failed: bool = False) -> Path:
    """Save a smoke report, green unless ``failed``, with the fingerprint of what the stub says."""
    of, on = Adapter.read(folder), Base.read(base_folder)
    contexts = [(i, 2 * i, 3 * i + 1) for i in range(16)]
    probes = tuple(
        Probe(context=c, base=stub_logprobs("base", list(c)), adapter=stub_logprobs(says, list(c)))
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
            adapter_sha256=of.sha256, base_sha256=on.sha256, dtype="float32", noise=0.01, probes=probes
        ),
    ).save(workspace)


class Place:
    """A workspace with a base, and a local target; adapters come with their report."""

    def __init__(self, folder: Path, root: Path | None = None, **target: Any) -> None:
        (folder / "infra").mkdir(parents=True, exist_ok=True)
        self.workspace = Workspace(folder)
        self.base = folder / "tiny"
        if not self.base.exists():
            base(self.base)
        self.target = LocalTarget(self.workspace, root, **{"keep": False, **target})

    def adapter(self, says: str, *, proven: bool = True, **knobs: Any) -> Path:
        """Write an adapter and its report; ``proven_as`` lies in the report about what it says."""
        lie = knobs.pop("proven_as", says)
        folder = adapter(self.workspace.root / "adapters" / says, says, **knobs)
        if proven:
            report(self.workspace, folder, self.base, lie)
        return folder

    def settings(self, tone: Path | None, **more: Any) -> DeploySettings:
        """Deploy one adapter under the name ``tone``."""
        adapters = {"tone": tone} if tone else {}
        return DeploySettings(**{"adapters": adapters, "base": "tiny", "timeout": 60, **more})

    def says(self) -> str:
        """Ask the endpoint who answers under ``tone``."""
        answer = self.target.endpoint().chat("hi", "tone", stream=False, max_tokens=1)
        return answer.strip()
