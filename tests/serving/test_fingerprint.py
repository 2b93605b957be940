"""Proof by a replayed fingerprint, also if the old adapter has only the first contexts."""

from __future__ import annotations

from nbtoolkit.serving.fingerprint import SHORT_CONTEXTS, Fingerprint, Probe, judge

BASE, NEW, OLD = {1: -0.1, 2: -3.0}, {1: -3.0, 2: -0.1}, {1: -1.5, 2: -0.9}
PROBES = tuple(Probe(context=(i, i + 1), base=BASE, adapter=NEW) for i in range(16))
PRINT = Fingerprint(adapter_sha256="a", base_sha256="b", dtype="float32", noise=0.05, probes=PROBES)


def test_the_new_adapter_is_proven_against_fewer_contexts_of_the_old() -> None:
    assert judge(PRINT, [NEW] * 16, [OLD] * SHORT_CONTEXTS).outcome == "proven"
    assert judge(PRINT.shortened, [NEW] * SHORT_CONTEXTS, [OLD] * SHORT_CONTEXTS).outcome == "proven"


def test_a_stale_adapter_is_distinguished_from_the_new_one() -> None:
    assert judge(PRINT, [OLD] * 16, [OLD] * SHORT_CONTEXTS).outcome == "other"
    assert judge(PRINT.shortened, [OLD] * SHORT_CONTEXTS, [OLD] * SHORT_CONTEXTS).outcome == "other"


def test_an_old_adapter_within_the_noise_of_the_new_one_is_not_distinguishable() -> None:
    near = {1: -3.05, 2: -0.1}
    assert judge(PRINT, [NEW] * 16, [near] * SHORT_CONTEXTS).outcome == "not distinguishable"


def test_the_base_under_the_adapters_name_is_refuted() -> None:
    assert judge(PRINT, [BASE] * 16).outcome == "other"
