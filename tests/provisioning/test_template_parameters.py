"""The template's parameters: what an existing app keeps, secrets, and what is created."""

from __future__ import annotations

from nbtoolkit.azure.container_apps.models import AppState
from nbtoolkit.provisioning.template_parameters import (
    all_secret_names,
    app_changes,
    missing_secrets,
    secret_changes,
    secret_values,
    template_parameters,
)
from tests.support.app_json import APP, app_with, existing, settings


def test_the_parameters_keep_what_an_existing_app_has() -> None:
    there = existing(app=APP)
    secret_names = all_secret_names(settings(hf_token="x", secrets=["MY_TOKEN"]), there)
    assert secret_names == ["nbtoolkit-api-key", "extra", "my-token", "hf-token"]
    values = template_parameters(
        settings(environment_variables={"NEW": "2"}, tags={"t": "1"}), there, "p", secret_names
    )
    assert values["environmentVariables"] == {"MINE": "1", "NEW": "2"}
    assert values["tags"] == {"owner": "someone", "t": "1"}
    assert values["customDomains"] == [
        {"name": "chat.example.org", "bindingType": "SniEnabled", "certificateId": "/c"}
    ]
    assert values["allowedIpRanges"] == ["203.0.113.0/24"]
    assert (values["registryServer"], values["registryIdentity"]) == ("r.io", "/id")
    assert "registryUsername" not in values


def test_secrets_are_kept_replaced_and_added_and_the_key_is_created_once() -> None:
    first = secret_values(settings(), {}, {})
    assert len(first["nbtoolkit-api-key"]) >= 32
    again = secret_values(
        settings(secrets=["EXTRA", "NEW"]), {**first, "extra": "old"}, {"EXTRA": "e", "NEW": "n"}
    )
    assert again == {**first, "extra": "e", "new": "n"}
    assert secret_changes({**first, "extra": "old"}, again) == ["secret extra: replaced", "secret new: added"]


def test_a_secret_without_a_value_is_a_blocker() -> None:
    (sentence,) = missing_secrets(settings(secrets=["EXTRA", "NEW"]), existing(app=APP), {})
    assert sentence.startswith("The secret NEW has no value")


def test_only_missing_resources_are_created() -> None:
    names = settings().resource_names()
    nothing = template_parameters(settings(), existing(), "p", ["k"])
    creates = (
        "createStorage",
        "createFileShare",
        "createEnvironment",
        "createWorkspace",
        "createEnvironmentStorage",
    )
    assert all(nothing[name] for name in creates)
    there = existing(storage_account={}, environment={"location": "westus3"}, environment_storage={})
    some = template_parameters(settings(), there, "p", ["k"])
    assert [some[name] for name in creates] == [False, True, False, False, False]
    assert existing(storage_account={}).to_create[0] == names.ids["file_share"]


def test_a_scale_rule_without_a_number_of_requests_has_azures_default() -> None:
    for http in ({}, {"metadata": {}}, {"metadata": {"concurrentRequests": "10"}}):
        app = AppState(app_with(template={"scale": {"rules": [{"name": "http", "http": http}]}}))
        assert app.scale["concurrent_requests"] == 10


def test_app_changes_names_differences_and_not_additions_of_others() -> None:
    app = AppState(APP)
    assert app_changes(settings(), app, "theirs", "img:1") == []
    found = app_changes(settings(max_replicas=3, environment_variables={"MINE": "2"}), app, "theirs", "img:2")
    assert found == ["image: img:1 → img:2", "maximum replicas: 1 → 3", "variable MINE: 1 → 2"]
