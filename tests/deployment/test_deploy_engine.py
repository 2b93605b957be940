"""A deploy with nothing replaced: the real engine on a tiny random model."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbtoolkit import DeploySettings, LocalTarget, Workspace, deploy, rollback
from tests.support.tiny_models import tiny_adapter, tiny_base


@pytest.mark.timeout(240)
def test_adapters_are_swapped_under_their_name_in_the_real_engine(tmp_path: Path) -> None:
    (tmp_path / "infra").mkdir()
    base = tiny_base(tmp_path / "tiny")
    for seed, name in enumerate(("one", "two"), start=1):
        tiny_adapter(tmp_path / name, base, seed=seed)
    target = LocalTarget(Workspace(tmp_path), keep=False, env={"OMP_NUM_THREADS": "1"})

    def settings(folder: str) -> DeploySettings:
        return DeploySettings(
            adapters={"tone": folder}, base="tiny", dtype="float32", override_reason="random weights"
        )

    def ask(model: str) -> tuple[str, str]:
        with deployment.endpoint.openai() as client:
            answer = client.completions.create(
                model=model, prompt=[3, 1, 4, 1, 5], max_tokens=6, temperature=0
            )
        return str(answer.system_fingerprint), answer.choices[0].text

    try:
        deployment = deploy(settings("one"), target=target)
        first, plain = ask("tone"), ask("tiny")
        assert first[0] == deployment.release.adapters[0].sha256[:16]
        assert first[1] != plain[1]
        assert "".join(deployment.endpoint.chat("hello", max_tokens=4, temperature=0))
        deployment = deploy(settings("two"), target=target)
        assert deployment.how == "hot swap"
        second = ask("tone")
        assert second[0] == deployment.release.adapters[0].sha256[:16]
        assert second[1] not in (first[1], plain[1])
        assert ask("tiny") == plain
        deployment = rollback(target=target)
        assert ask("tone") == first
        assert deployment.endpoint.health().engine_starts == 1
    finally:
        target.destroy()
