"""Azure's nested errors become causes with a plain message, each with a next step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceNotFoundError,
    ServiceRequestError,
    ServiceResponseError,
)

from nbtoolkit.azure.errors.arm_error import explain, with_target
from nbtoolkit.azure.errors.translate import or_none, translate_errors
from nbtoolkit.errors import AzureFailed, NotSignedIn, QuotaShort, StoreError


def recorded(shared: Path, name: str) -> Any:
    return json.loads((shared / "azure" / "errors" / name).read_text())


def test_recorded_errors_are_explained_by_their_innermost_causes(shared: Path) -> None:
    found = {
        file.name: [(cause.code, cause.azure_message) for cause in explain(json.loads(file.read_text()))]
        for file in (shared / "azure" / "errors").glob("*.json")
    }
    assert found["arm_sample_error_01.json"] == [
        ("Conflict", "Website with given name devapi already exists."),
        ("Conflict", "Website with given name devweb already exists."),
    ]
    assert [code for code, _ in found["arm_sample_error_02.json"]] == [
        "ResourceDeploymentFailure",
        "ResourceNameInvalid",
    ]
    assert [code for code, _ in found["arm_sample_error_03.json"]] == [
        "ResourceNotFound",
        "ResourceNotFound",
        "ParentResourceNotFound",
    ]
    assert [code for code, _ in found["arm_sample_error_04.json"]] == ["InternalServerError"]
    assert [code for code, _ in found["failed-subscription-deployment.json"]] == ["DeploymentFailed"]


def test_recorded_causes_have_a_plain_message_and_a_next_step(shared: Path) -> None:
    late, name = explain(recorded(shared, "arm_sample_error_02.json"))
    assert late.message == "Azure gave up on the resource after its time limit."
    assert "another region" in late.next_step
    assert name.message == "Azure does not accept this name."
    assert "'matell-azdacaacr'" in str(name)


def nested(code: str, message: str, depth: int = 2) -> dict[str, Any]:
    """Wrap an error as deployments of deployments do: each level is text inside of the next."""
    error: dict[str, Any] = {"error": {"code": code, "message": message}}
    for _ in range(depth):
        inner = {"code": "Conflict", "message": json.dumps(error, indent=2)}
        error = {"error": {"code": "DeploymentFailed", "message": "At least one ...", "details": [inner]}}
    return error


@pytest.mark.parametrize(
    ("code", "azure_text", "message", "step"),
    [
        (
            "MaxRegionalQuotaExceeded",
            "Maximum of 0 exceeded for SubscriptionNCA100Gpus in region westus3.",
            "GPU quota SubscriptionNCA100Gpus",
            "portal.azure.com/#view/Microsoft_Azure_Capacity/QuotaMenuBlade",
        ),
        (
            "AuthorizationFailed",
            "The client 'a@b.c' with object id '1' does not have authorization to perform action "
            "'Microsoft.App/managedEnvironments/write' over scope '/subscriptions/s/resourceGroups/g' or the "
            "scope is invalid.",
            "You lack the permission Microsoft.App/managedEnvironments/write.",
            "Contributor on /subscriptions/s/resourceGroups/g",
        ),
        (
            "LinkedAuthorizationFailed",
            "The client has permission to perform action 'Microsoft.App/containerApps/write' on scope '/x'; "
            "however, it does not have permission to perform action(s) "
            "'Microsoft.App/managedEnvironments/join/action' on the linked scope(s) '/subscriptions/s/e' (.)",
            "You may not Microsoft.App/managedEnvironments/join/action",
            "/subscriptions/s/e",
        ),
        (
            "MissingSubscriptionRegistration",
            "The subscription is not registered to use namespace 'Microsoft.App'. See https://aka.ms/rps",
            "has not registered the resource provider Microsoft.App",
            "az provider register --namespace Microsoft.App",
        ),
        (
            "StorageAccountAlreadyTaken",
            "The storage account named aistorage1 is already taken.",
            "aistorage1 is taken",
            "storage_account",
        ),
        ("WorkloadProfileInUse", "Profile x is used.", "workload profile", "only ever adds"),
        ("ManagedEnvironmentOperationInProgress", "busy", "Another operation", "wait"),
        ("ContainerAppLockConflict", "busy", "Another operation", "wait"),
        ("SkuNotAvailable", "no", "not offered in this region", "another region"),
        (
            "LocationNotAvailableForResourceType",
            "The provided location 'mars' is not available for resource type 'Microsoft.App/x'. List ...",
            "The region mars does not offer",
            "regions that the message names",
        ),
        (
            "ContainerAppSecretRefNotFound",
            "SecretRef 'hf-token' defined for container 'inference' not found.",
            "refers to the secret hf-token",
            "add the secret hf-token",
        ),
        (
            "InvalidParameterValueInContainerTemplate",
            "The following field(s) are either invalid or missing. Field 'template.containers.main.image' is "
            'invalid with details: \'Invalid value: "r.azurecr.io/x:latest": GET https:: MANIFEST_UNKNOWN: '
            'manifest tagged by "latest" is not found\';.',
            "There is no image r.azurecr.io/x:latest.",
            "image",
        ),
        (
            "ContainerAppOperationError",
            "Failed to provision revision for container app 'x'. Error details: Field 'x' is invalid: "
            "'Invalid value: \"r.azurecr.io/x:1\": GET https:?scope=x: UNAUTHORIZED: authentication'",
            "refused Azure access to the image r.azurecr.io/x:1",
            "registry_server",
        ),
        (
            "ContainerAppOperationError",
            "Failed to provision revision for container app 'x'. Error details: Operation expired.",
            "did not become ready",
            "logs",
        ),
        ("InvalidTemplate", "Deployment template validation failed: 'x'", "template", "parameter"),
        ("TooManyRequests", "x", "how many requests", "wait"),
    ],
)
def test_catalogue_entries_match_at_every_nesting_depth(
    code: str, azure_text: str, message: str, step: str
) -> None:
    for depth in (0, 1, 3):
        (cause,) = explain(nested(code, azure_text, depth))
        assert cause.code == code
        assert message in cause.message
        assert step in cause.next_step
        assert cause.azure_message == azure_text[:600]
        assert cause.known


def test_the_policy_of_a_refusal_is_named() -> None:
    error = {
        "code": "RequestDisallowedByPolicy",
        "message": "Resource 'x' was disallowed by policy.",
        "target": "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/x",
        "additionalInfo": [
            {"type": "PolicyViolation", "info": {"policyAssignmentDisplayName": "No public storage"}}
        ],
    }
    (cause,) = explain(
        {"error": {"code": "InvalidTemplateDeployment", "message": "See inner.", "details": [error]}}
    )
    assert "'No public storage'" in cause.message
    assert cause.resource == "Microsoft.Storage/storageAccounts x"


def test_an_unknown_code_keeps_azures_message() -> None:
    (cause,) = explain({"error": {"code": "SomethingNew", "message": "The moon is in the way."}})
    assert (cause.code, cause.message) == ("SomethingNew", "The moon is in the way.")
    assert not cause.known
    assert cause.next_step


@pytest.mark.parametrize(
    "nothing", [None, "", {}, {"error": None}, {"error": {}}, [], {"error": {"details": []}}]
)
def test_an_error_without_a_reason_has_a_message(nothing: Any) -> None:
    (cause,) = explain(nothing)
    assert cause.message == "Azure names no reason."


@pytest.mark.parametrize("text", ["Operation expired", "{broken", '{"error": "just text"}'])
def test_a_plain_text_is_the_message(text: str) -> None:
    (cause,) = explain(text)
    assert cause.message in (text, "just text")


def test_causes_are_unique_and_inherit_the_target() -> None:
    part = {"code": "Odd", "message": "no"}
    (cause,) = explain(
        {"code": "DeploymentFailed", "message": "x", "target": "/a/b", "details": [part, part]}
    )
    assert cause.target == "/a/b"
    (other,) = with_target(explain(part), "/c/d")
    assert other.target == "/c/d"


# Exceptions of the SDK


class FakeResponse:
    """The attributes of a response that the SDK's exceptions read."""

    def __init__(self, status: int, body: Any) -> None:
        self.status_code, self.reason = status, "reason"
        self.headers = {"x-ms-request-id": "r-1"}
        self._body = body

    def text(self, encoding: str | None = None) -> str:
        return self._body if isinstance(self._body, str) else json.dumps(self._body)


def raised(error: Exception) -> AzureFailed:
    with pytest.raises(AzureFailed) as caught, translate_errors("read the app x"):
        raise error
    return caught.value


def test_an_error_response_becomes_azure_failed() -> None:
    body = {"error": {"code": "ContainerAppLockConflict", "message": "busy"}}
    error = raised(HttpResponseError(response=FakeResponse(409, body)))  # type: ignore[arg-type]
    assert error.message.startswith("Azure could not read the app x: Another operation")
    assert (error.status, error.code, error.request_id) == (409, "ContainerAppLockConflict", "r-1")


def test_quota_and_sign_in_errors_have_their_own_classes() -> None:
    quota = {"error": {"code": "MaxRegionalQuotaExceeded", "message": "SubscriptionConsumptionT4Gpus"}}
    assert isinstance(raised(HttpResponseError(response=FakeResponse(400, quota))), QuotaShort)  # type: ignore[arg-type]
    token = {"error": {"code": "ExpiredAuthenticationToken", "message": "The access token expiry is over."}}
    refused = raised(ClientAuthenticationError(response=FakeResponse(401, token)))  # type: ignore[arg-type]
    assert isinstance(refused, NotSignedIn)
    assert isinstance(refused, PermissionError)


def test_a_missing_token_is_not_signed_in() -> None:
    error = raised(ClientAuthenticationError("EnvironmentCredential: not configured"))
    assert isinstance(error, NotSignedIn)
    assert "EnvironmentCredential: not configured" in error.message
    assert "az login" in error.next_step


@pytest.mark.parametrize("kind", [ServiceRequestError, ServiceResponseError])
def test_a_missing_response_points_to_network_and_proxy(kind: type[Exception]) -> None:
    error = raised(kind("Connection refused"))
    assert error.status is None
    assert "Connection refused" in error.message
    assert "HTTPS_PROXY" in error.next_step


@pytest.mark.parametrize("body", ["<html>gateway</html>", "", "[1]"])
def test_a_body_that_is_not_an_error_keeps_the_status(body: str) -> None:
    error = raised(HttpResponseError("Operation returned status 502", response=FakeResponse(502, body)))  # type: ignore[arg-type]
    assert error.status == 502
    assert "502" in error.message


def test_or_none_returns_none_for_404_only() -> None:
    def missing() -> str:
        raise ResourceNotFoundError(response=FakeResponse(404, {"error": {"code": "ResourceNotFound"}}))  # type: ignore[arg-type]

    def forbidden() -> str:
        raise HttpResponseError(response=FakeResponse(403, {"error": {"code": "AuthorizationFailed"}}))  # type: ignore[arg-type]

    assert or_none("read x", missing) is None
    assert or_none("read x", lambda: "there") == "there"
    with pytest.raises(AzureFailed):
        or_none("read x", forbidden)


def test_other_exceptions_pass_through_translate_errors() -> None:
    with pytest.raises(ZeroDivisionError), translate_errors("divide"):
        _ = 1 / 0


def test_every_error_of_azure_has_its_facts() -> None:
    bare = AzureFailed("It failed.", next_step="look")
    assert (bare.status, bare.code, bare.request_id, bare.causes) == (None, None, None, ())
    assert NotSignedIn("Nobody.", next_step="sign in", status=401).status == 401
    assert NotSignedIn("Nobody.", next_step="sign in").reasons == {}
    stored = StoreError("No.", next_step="look")
    assert (stored.status, stored.code) == (None, None)
