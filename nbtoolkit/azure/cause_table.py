"""Codes and messages of Azure that people meet here, in plain words, each with what to do."""

from __future__ import annotations

from typing import NamedTuple

QUOTA_PAGE = "https://portal.azure.com/#view/Microsoft_Azure_Capacity/QuotaMenuBlade/~/myQuotas"


class Known(NamedTuple):
    """Codes (none: any) and a pattern of the message, what they mean and what to do.

    The pattern's named groups may be used in both sentences.
    """

    codes: str
    message: str
    says: str
    step: str


_ANY = ""
_RETRY = "run the step again; it goes on from what is done"
_OTHER_NAME = "choose another name in the settings and run the step again"
_OTHER_PLACE = "choose another region, or another GPU, in the settings"
_MORE_QUOTA = f"ask for more on {QUOTA_PAGE} (provider: Container Apps), or {_OTHER_PLACE}"
_ROLE = "ask an owner of the subscription for a role that holds this action, such as Contributor on {scope}"

# The first row whose code and message fit counts: the more telling ones come first.
TABLE = (
    # Quota and capacity
    Known(
        "MaxRegionalQuotaExceeded QuotaExceeded",
        r"(?P<meter>Subscription\w*Gpus|\w*GpusEnvCount|SubscriptionNC\w*)",
        "The subscription's GPU quota {meter} in this region is used up or zero.",
        _MORE_QUOTA,
    ),
    Known(
        "MaxRegionalQuotaExceeded QuotaExceeded",
        _ANY,
        "A quota of the subscription in this region is used up or zero.",
        _MORE_QUOTA,
    ),
    Known(
        "MaxNumberOfRegionalEnvironmentsInSubExceeded MaxNumberOfGlobalEnvironmentsInSubExceeded",
        r"^(?:.*?more than (?P<count>\d+))?",
        "The subscription may not hold another Container Apps environment (the limit: {count}).",
        "name an existing environment in acaEnvironmentName, delete one that is not used, "
        f"or ask for more on {QUOTA_PAGE}",
    ),
    Known(
        "ManagedEnvironmentCapacityHeavyUsageError AKSCapacityHeavyUsage AksCapacityHeavyUsage",
        _ANY,
        "The region is out of capacity for new environments.",
        "choose another region, or try again later",
    ),
    Known("SkuNotAvailable", _ANY, "What the template asks for is not offered in this region.", _OTHER_PLACE),
    Known(
        "LocationNotAvailableForResourceType",
        r"^(?:.*?location '(?P<place>[^']+)')?",
        "The region {place} does not offer this kind of resource.",
        "choose one of the regions that the message names",
    ),
    Known(
        "LocationNotAvailableForResourceGroup InvalidLocation InvalidDeploymentLocation",
        _ANY,
        "Azure has no such region, or resource groups cannot be there.",
        "choose a region from the list, such as swedencentral",
    ),
    Known(
        "InvalidResourceLocation",
        r"already exists in location '(?P<there>[^']+)'",
        "A resource of this name is already in {there}; a resource cannot be moved to another region.",
        "set the region to {there}, or choose another name",
    ),
    Known(
        "InvalidResourceGroupLocation",
        _ANY,
        "The resource group exists in another region already.",
        "leave the region of the group as it is, or choose another group",
    ),
    # Permissions and policies
    Known(
        "LinkedAuthorizationFailed",
        r"action\(s\) '(?P<action>[^']+)' on the linked scope\(s\) '(?P<scope>[^']+)'",
        "You may not {action} on a resource that this one uses.",
        _ROLE,
    ),
    Known(
        "",
        r"does not have (?:authorization|permission) to perform action '(?P<action>[^']+)' (?:over|at) scope "
        r"'(?P<scope>[^']+)'",
        "You lack the permission {action}.",
        f"{_ROLE}; a role that was given just now takes some minutes",
    ),
    Known(
        "AuthorizationFailed Forbidden",
        _ANY,
        "You lack a permission for this.",
        "ask an owner of the subscription for Contributor on the resource group",
    ),
    Known(
        "RequestDisallowedByPolicy",
        _ANY,
        "A policy of your organisation forbids this.",
        "choose settings that the policy allows, or ask who manages the subscription for an exemption",
    ),
    Known(
        "RequestDisallowedByAzure",
        _ANY,
        "Azure does not offer this region to your subscription now.",
        "choose another region",
    ),
    Known(
        "ScopeLocked",
        _ANY,
        "A lock on the resource or its group forbids this.",
        "ask its owner to remove the lock, or choose another resource group",
    ),
    Known(
        "DenyAssignmentAuthorizationFailed",
        _ANY,
        "A deny assignment forbids this.",
        "choose another resource group",
    ),
    Known(
        "InvalidAuthenticationTokenTenant",
        _ANY,
        "You are signed in to another tenant than the subscription's.",
        "sign in to the tenant of the subscription: az login --tenant TENANT",
    ),
    Known(
        "ExpiredAuthenticationToken InvalidAuthenticationToken AuthenticationFailed",
        _ANY,
        "Azure did not accept the sign-in.",
        "sign in again, for example with az login",
    ),
    # The subscription
    Known(
        "MissingSubscriptionRegistration SubscriptionNotRegistered",
        r"namespace '(?P<name>[^']+)'",
        "The subscription has not registered the resource provider {name}.",
        "register it: az provider register --namespace {name} --wait, or set register_providers=True",
    ),
    Known(
        "NoRegisteredProviderFound",
        _ANY,
        "No registered provider offers this resource in this region.",
        "register the provider (Microsoft.App), or choose another region",
    ),
    Known(
        "SubscriptionNotFound InvalidSubscriptionId",
        _ANY,
        "There is no such subscription, or you cannot see it.",
        "choose one from the list, and sign in to its tenant",
    ),
    Known(
        "ReadOnlyDisabledSubscription DisabledSubscription SubscriptionDisabled",
        _ANY,
        "The subscription is disabled, often because its credit is used up.",
        "enable it in the portal, or choose another subscription",
    ),
    # Names
    Known(
        "StorageAccountAlreadyTaken",
        r"^(?:.*?named (?P<name>[a-z0-9]+))?",
        "The storage account name {name} is taken by somebody else: these names are unique in all of Azure.",
        "choose another storage_account",
    ),
    Known(
        "StorageAccountInAnotherResourceGroup StorageAccountAlreadyExists",
        _ANY,
        "A storage account of this name is in another resource group of the subscription.",
        "choose another storage_account, or that resource group",
    ),
    Known(
        "AccountNameInvalid ResourceNameInvalid InvalidResourceName ContainerAppInvalidName "
        "InvalidContainerAppName",
        _ANY,
        "Azure does not accept this name.",
        _OTHER_NAME,
    ),
    # What exists
    Known(
        "ResourceGroupNotFound",
        r"^(?:.*?group '(?P<name>[^']+)')?",
        "There is no resource group {name}.",
        "choose one from the list, or set create_resource_group=True",
    ),
    Known(
        "ResourceGroupBeingDeleted",
        _ANY,
        "The resource group is being deleted.",
        "wait until it is gone and run the step again, or choose another group",
    ),
    Known(
        "DeploymentActive",
        _ANY,
        "The same deployment is running already.",
        "run the step again: it attaches to the one that runs",
    ),
    Known(
        "DeploymentQuotaExceeded",
        _ANY,
        "The resource group's history holds 800 deployments, which is the limit.",
        "delete old entries under Deployments of the resource group in the portal",
    ),
    Known(
        "ManagedEnvironmentOperationInProgress ContainerAppOperationInProgress ContainerAppLockConflict "
        "AnotherOperationInProgress StorageAccountOperationInProgress",
        _ANY,
        "Another operation on the same resource is still running.",
        f"wait for it; then {_RETRY}",
    ),
    Known(
        "WorkloadProfileInUse",
        _ANY,
        "The request would take a workload profile away that an app uses.",
        "keep the environment's profiles; nbtoolkit only ever adds one",
    ),
    Known(
        "ManagedEnvironmentNotProvisioned ManagedEnvironmentNotReadyForAppCreation "
        "ManagedEnvironmentProvisioningError",
        _ANY,
        "The environment is not ready: an earlier operation on it failed or still runs.",
        "look at it in the portal; repair or delete it, or name another environment",
    ),
    Known(
        "ManagedEnvironmentStorageNotFound",
        _ANY,
        "The environment does not know the file share.",
        _RETRY,
    ),
    Known(
        "KeyBasedAuthenticationNotPermitted",
        _ANY,
        "The storage account forbids access by key, and Container Apps mounts shares by key only.",
        "allow shared key access on the storage account, or name another one",
    ),
    # The app
    Known(
        "ContainerAppSecretRefNotFound",
        r"SecretRef '(?P<name>[^']+)'",
        "The app refers to the secret {name}, which it does not have.",
        "add the secret {name}, or remove what refers to it",
    ),
    Known(
        "ContainerAppSecretInvalid",
        r"name\(s\) '(?P<names>[^']*)'",
        "The secrets {names} have no value or a name that Azure does not accept.",
        "give each a value; names are lower-case letters, digits and '-'",
    ),
    Known(
        _ANY,
        r"Invalid value: \\?\"(?P<image>[^\"\\]+)\\?\".*(?:MANIFEST_UNKNOWN|NAME_UNKNOWN|not found)",
        "There is no image {image}.",
        "correct image: its name and its tag",
    ),
    Known(
        _ANY,
        r"Invalid value: \\?\"(?P<image>[^\"\\]+)\\?\".*(?:UNAUTHORIZED|DENIED)",
        "The registry did not give the image {image} to Azure.",
        "set registry_server with an identity, or with a user name and the secret that holds its password",
    ),
    Known(
        _ANY,
        r"TOOMANYREQUESTS|toomanyrequests|pull rate limit",
        "The registry limits how often images are pulled (Docker Hub does).",
        "try again later, or use a registry of your own in the region",
    ),
    Known(
        "ContainerAppOperationError",
        r"Operation expired|Deployment Progress Deadline",
        "The app's new revision did not become ready in about ten minutes.",
        "look at the app's logs for why the container does not start or where no GPU is free; "
        "an earlier revision still serves",
    ),
    Known(
        "ResourceNotFound ParentResourceNotFound",
        r"resource '(?P<name>[^']+)'",
        "The resource {name} is missing: it was never created, or its own creation failed.",
        "settle the other causes first; then run the step again",
    ),
    # The template
    Known(
        "InvalidTemplate",
        _ANY,
        "Azure does not accept the template with these parameters.",
        "correct the parameter that the message names, in the settings or the parameter file",
    ),
    Known(
        "DeploymentFailed",
        _ANY,
        "A resource of the deployment failed, and Azure's answer does not say which.",
        "look at the deployment's operations in the portal",
    ),
    # Azure itself
    Known(
        "InternalServerError ServiceUnavailable ServerTimeout GatewayTimeout RequestTimeout "
        "OperationTimedOut ServerBusy",
        _ANY,
        "Azure itself failed or was too slow.",
        _RETRY,
    ),
    Known(
        _ANY,
        r"did not complete within the allowed timeout period",
        "Azure gave up on the resource after its time limit.",
        f"{_RETRY}; where it happens again, choose another region",
    ),
    Known(
        "TooManyRequests SubscriptionRequestsThrottled OperationNotAllowedThrottled",
        _ANY,
        "Azure limits how many requests come in at once.",
        "wait some minutes and run the step again",
    ),
)
