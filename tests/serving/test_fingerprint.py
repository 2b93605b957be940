"""The three conditions of a proof, on replayed answers that are made up."""

from __future__ import annotations

import pytest

from nbtoolkit.serving.fingerprint import SHORT_CONTEXTS, Fingerprint, Probe, judge

BASE, NEW, OLD = {1: -0.1, 2: -3.0}, {1: -3.0, 2: -0.1}, {1: -1.5, 2: -0.9}
NOISE = {"bfloat16": 0.05, "float32": 1e-5}
PROBES = tuple(Probe(context=(i, i + 1), base=BASE, adapter=NEW, noise=NOISE) for i in range(16))
PRINT = Fingerprint(adapter_sha256="a", base_sha256="b", dtype="bfloat16", probes=PROBES)


def moved(answer: dict[int, float], nats: float) -> list[dict[int, float]]:
    return [{token: value - nats for token, value in answer.items()}] * 16


def test_equal_answers_are_proven_and_the_verdict_has_the_distances() -> None:
    verdict = judge(PRINT, moved(NEW, 0.01), moved(BASE, 0.02))
    assert verdict
    assert str(verdict).startswith("proven: 16 of 16 contexts; the answers are 0.01 nats on average")
    assert verdict.base
    assert verdict.base.mean == pytest.approx(0.02)


def test_an_adapter_that_is_nearer_to_its_reference_than_to_the_base_is_refuted_nevertheless() -> None:
    verdict = judge(PRINT, moved(NEW, 0.3), [BASE] * 16)
    assert verdict.outcome == "adapter differs"
    assert verdict.refuted
    assert "0.3 nats on average (limit 0.1)" in verdict.reason


def test_one_wrong_context_is_refuted() -> None:
    verdict = judge(PRINT, [*[NEW] * 9, *moved(NEW, 0.4)[:1], *[NEW] * 6], [BASE] * 16)
    assert (verdict.outcome, verdict.adapter.matched) == ("adapter differs", 15)
    assert "0.4 at context 9 (limit 0.2)" in verdict.reason


def test_a_changed_base_is_refuted() -> None:
    verdict = judge(PRINT, [NEW] * 16, moved(BASE, 0.3))
    assert (verdict.outcome, verdict.refuted) == ("base differs", True)
    assert "under the base's name are 0.3 nats" in verdict.reason


def test_the_base_under_the_adapters_name_is_named() -> None:
    verdict = judge(PRINT, [BASE] * 16, [BASE] * 16)
    assert verdict.outcome == "adapter differs"
    assert "it is the base that answers" in verdict.reason


def test_an_adapter_within_the_noise_of_its_base_is_not_distinguishable() -> None:
    probes = tuple(probe.model_copy(update={"adapter": moved(BASE, 0.05)[0]}) for probe in PROBES)
    faint = PRINT.model_copy(update={"probes": probes})
    verdict = judge(faint, moved(BASE, 0.05), [BASE] * 16)
    assert (verdict.outcome, verdict.refuted, bool(verdict)) == ("not distinguishable", False, False)
    assert "from the base" in verdict.reason


def test_the_noise_is_that_of_the_servers_dtype_and_the_largest_if_it_is_unknown() -> None:
    answers = moved(NEW, 0.01)
    assert judge(PRINT, answers, dtype="bfloat16")
    assert not judge(PRINT, answers, dtype="float32")
    assert judge(PRINT, answers, dtype=None)
    assert judge(PRINT, answers, dtype="float16")


def test_the_new_adapter_is_proven_against_fewer_contexts_of_the_old() -> None:
    assert judge(PRINT, [NEW] * 16, old=[OLD] * SHORT_CONTEXTS)
    assert judge(PRINT.shortened, [NEW] * SHORT_CONTEXTS, old=[OLD] * SHORT_CONTEXTS)


def test_a_stale_adapter_is_refuted() -> None:
    assert judge(PRINT, [OLD] * 16, old=[OLD] * SHORT_CONTEXTS).refuted
    assert judge(PRINT.shortened, [OLD] * SHORT_CONTEXTS, old=[OLD] * SHORT_CONTEXTS).refuted


def test_an_old_adapter_within_the_noise_of_the_new_one_is_not_distinguishable() -> None:
    verdict = judge(PRINT, [NEW] * 16, old=moved(NEW, 0.05)[:SHORT_CONTEXTS])
    assert verdict.outcome == "not distinguishable"
    assert "from the previous adapter" in verdict.reason
