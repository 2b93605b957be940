"""A7: what the chosen engine cannot serve, by the table of engine rules; the evidence has every engine."""

from __future__ import annotations

from typing import Any

from nbtoolkit.serving.engine_rules import ENGINES, MAX_LORA_RANKS, EngineInput, findings, max_rank
from nbtoolkit.smoke.check import CheckOutcome, SmokeContext, Verdict, abbreviate, check, passed
from nbtoolkit.smoke.static.adapter_config import peft_key_table


@check("A7", "static", "engine rules")
def engine_support(context: SmokeContext) -> CheckOutcome:
    """Require that the chosen engine can serve the adapter; what it would drop silently fails."""
    settings, config = context.settings, context.adapter.config
    subject = EngineInput(
        config=config,
        keys=context.adapter.tensors.keys(),
        base_config=context.base.config,
        peft_keys=frozenset().union(*peft_key_table().values()),
        quantization=settings.quantization,
        gpu=settings.gpu,
    )
    found = {engine: findings(subject, engine) for engine in ENGINES}
    verdicts: dict[str, Verdict] = {e: ones[0].verdict if ones else "pass" for e, ones in found.items()}
    rank = max_rank(config)
    evidence: dict[str, Any] = {
        "verdicts": verdicts,
        "found": {engine: [str(one) for one in ones] for engine, ones in found.items()},
        "rank": rank,
        "max_lora_rank": next((limit for limit in MAX_LORA_RANKS if limit >= rank), None),
    }
    mine = found[settings.engine]
    others = [engine for engine in ENGINES if engine != settings.engine]
    if not mine:
        refused = "".join(f"; {e} does not: {found[e][0]}" for e in others if verdicts[e] == "fail")
        return passed(f"{settings.engine} serves it{refused}", evidence)
    verdict = verdicts[settings.engine]
    recommended = {name: value for one in mine for name, value in one.rule.settings.items()}
    remedies = [one.rule.remedy for one in mine if one.verdict == verdict]
    if verdict == "fail" and (better := [engine for engine in others if verdicts[engine] != "fail"]):
        recommended = {"engine": better[0]}
        remedies.insert(0, f"choose the engine {better[0]}")
    said = "cannot serve" if verdict == "fail" else "may not serve"
    return CheckOutcome(
        verdict,
        f"{settings.engine} {said} {abbreviate([str(one) for one in mine if one.verdict == verdict], 3)}",
        evidence,
        "; or ".join(dict.fromkeys(remedies)),
        recommended,
    )
