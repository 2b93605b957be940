"""What is known to go wrong with an engine on a machine."""

from __future__ import annotations

from nbtoolkit.provisioning.checks.findings import Findings
from nbtoolkit.provisioning.settings import ProvisionSettings


def check_engine(settings: ProvisionSettings) -> Findings:
    """Tell what to expect of the chosen engine on the chosen machine."""
    found = Findings()
    if settings.engine != "vllm":
        return found
    if settings.gpu == "T4":
        found.warn(
            "vLLM does not start on every T4 image (its FlashInfer kernels want a compiler there): where it "
            "fails, choose the transformers engine, or the GPU A100."
        )
    if not settings.image:
        found.warn(
            "vLLM's image is larger than 8 GB, beyond which Container Apps may show no console logs, "
            "and it starts more slowly; the timeline does not depend on them."
        )
    return found
