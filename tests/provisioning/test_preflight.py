"""The preflight as a whole: number of requests, failed queries, sign-in, cancel and how it prints."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from nbtoolkit.azure.arm.existing_resources import ExistingResources
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.errors import (
    AzureFailed,
    Blocked,
    Cancelled,
    NotSignedIn,
)
from nbtoolkit.progress import Progress
from nbtoolkit.provisioning import (
    Preflight,
    ProvisionSettings,
    preflight,
)
from nbtoolkit.workspace import Workspace
from tests.azure_double import SUBSCRIPTION, AzureDouble
from tests.support.preflight_resources import A100, Check, only, put, put_environment

CANARY = "<img src=x onerror=alert(1)>"


MAX_REQUESTS = 9


def test_an_empty_group_is_ready_and_the_facts_name_what_is_created(check: Check, azure: AzureDouble) -> None:
    found = check()
    assert found.ok
    assert found.warnings == ()
    assert found.facts["region"] == "swedencentral"
    assert found.facts["providers"] == "all registered"
    assert found.facts["permissions"] == "all that are needed in rg"
    assert "0 of 2 in use" in found.facts["quota"]
    assert "will be created" in found.facts["storage"]
    found.check()


def test_the_preflight_only_reads_with_few_requests_and_wakes_no_app(
    check: Check, azure: AzureDouble
) -> None:
    check()
    sent = [seen for seen in azure.requests if seen.host == "management.azure.com"]
    assert {seen.method for seen in sent} == {"GET", "POST"}
    assert [seen.path.rpartition("/")[2] for seen in sent if seen.method == "POST"] == [
        "checkNameAvailability"
    ]
    assert len(sent) <= 5 + MAX_REQUESTS
    assert {seen.host for seen in azure.requests} <= {
        "management.azure.com",
        "login.microsoftonline.com",
        "prices.azure.com",
    }


def test_an_app_at_zero_replicas_is_not_woken(check: Check, azure: AzureDouble) -> None:
    made = put_environment(azure, A100)
    container = {"name": "inference", "image": "python:3.11", "resources": {"cpu": 24, "memory": "220Gi"}}
    put(
        azure,
        "Microsoft.App/containerApps/app",
        {
            "location": "swedencentral",
            "properties": {
                "environmentId": made["id"],
                "workloadProfileName": "p0",
                "configuration": {"ingress": {"external": True, "targetPort": 7860}},
                "template": {"containers": [container], "scale": {"minReplicas": 0, "maxReplicas": 1}},
            },
        },
    )
    app = Cloud.shared().containerapps(SUBSCRIPTION).container_apps.get("rg", "app").as_dict()
    host = app["properties"]["configuration"]["ingress"]["fqdn"]
    azure.apps.quota.limits["SubscriptionConsumptionNCA100Gpus"] = 1
    found = check(environment_name="env", app="app")
    assert found.ok
    assert found.facts["app"] == "app exists"
    assert host not in {seen.host for seen in azure.requests}


def test_a_forbidden_query_is_a_warning(check: Check, azure: AzureDouble) -> None:
    azure.arm.permissions.forbid("Microsoft.App/locations/usages/read")
    found = check()
    assert found.ok
    assert found.quota is None
    only(found.warnings, "quotas", "That was not checked")


def test_without_a_sign_in_nothing_is_checked(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "wrong")
    with pytest.raises(NotSignedIn, match="AADSTS7000215"):
        check()


def test_an_unreachable_azure_is_an_error_and_not_a_warning(
    check: Check, azure: AzureDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    check()
    Cloud.shared().close()
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setattr("azure.core.pipeline.policies.RetryPolicy.sleep", lambda *_, **__: None)
    with pytest.raises(AzureFailed, match="no complete response") as caught:
        check()
    assert "proxy" in caught.value.next_step


def test_a_cancelled_preflight_ends(azure: AzureDouble, workspace_root: Path) -> None:
    progress = Progress()
    progress.cancel()
    settings = ProvisionSettings(subscription=SUBSCRIPTION, resource_group="rg")
    with pytest.raises(Cancelled):
        preflight(settings, workspace=Workspace(workspace_root), progress=progress)


def test_a_missing_price_differs_from_an_unreachable_price_list(check: Check, workspace_root: Path) -> None:
    assert "not reachable" in check().facts["price"]
    kept = {"at": time.time(), "meters": {"Another": {"second": 1, "currency": "USD"}}}
    cache = Workspace(workspace_root).cache
    cache.mkdir(parents=True, exist_ok=True)
    (cache / "prices-swedencentral.json").write_text(json.dumps(kept))
    assert "no price of" in check().facts["price"]


def test_vllm_on_a_t4_is_a_warning(check: Check) -> None:
    assert any("FlashInfer" in text for text in check(engine="vllm", gpu="T4").warnings)
    assert not any("FlashInfer" in text for text in check(engine="vllm").warnings)


def test_the_result_is_escaped_in_html() -> None:
    settings = ProvisionSettings(subscription=SUBSCRIPTION, resource_group="rg")

    found = Preflight(
        settings,
        ExistingResources(settings.resource_names()),
        blockers=(f"settle {CANARY}",),
        warnings=("mind that",),
        facts={"app": CANARY},
    )
    text, html = str(found), found._repr_html_()
    assert text.startswith("1 blocker keeps this provision from running.\n  - settle ")
    assert "Warnings:\n  - mind that" in text
    assert CANARY not in html
    assert "&lt;img" in html
    with pytest.raises(Blocked) as caught:
        found.check()
    assert caught.value.__dict__["blockers"] == found.blockers
