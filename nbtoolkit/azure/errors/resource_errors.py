"""What goes wrong with resources, quotas and templates in Azure: in plain words, with what to do."""

from __future__ import annotations

from nbtoolkit.azure.errors.access_errors import ANY, CatalogEntry
from nbtoolkit.azure.portal_urls import QUOTA_PAGE

_RETRY = "run the step again; it goes on from what is done"
_OTHER_PLACE = "choose another region, or another GPU, in the settings"
_MORE_QUOTA = f"ask for more on {QUOTA_PAGE} (provider: Container Apps), or {_OTHER_PLACE}"

RESOURCE_CAUSES = (
    # Quota and capacity
    CatalogEntry(
        "MaxRegionalQuotaExceeded QuotaExceeded",
        r"(?P<meter>Subscription\w*Gpus|\w*GpusEnvCount|SubscriptionNC\w*)",
        "The subscription's GPU quota {meter} in this region is used up or zero.",
        _MORE_QUOTA,
    ),
    CatalogEntry(
        "MaxRegionalQuotaExceeded QuotaExceeded",
        ANY,
        "A quota of the subscription in this region is used up or zero.",
        _MORE_QUOTA,
    ),
    CatalogEntry(
        "MaxNumberOfRegionalEnvironmentsInSubExceeded MaxNumberOfGlobalEnvironmentsInSubExceeded",
        r"^(?:.*?more than (?P<count>\d+))?",
        "The subscription may not hold another Container Apps environment (the limit: {count}).",
        "name an existing environment in acaEnvironmentName, delete one that is not used, "
        f"or ask for more on {QUOTA_PAGE}",
    ),
    CatalogEntry(
        "ManagedEnvironmentCapacityHeavyUsageError AKSCapacityHeavyUsage AksCapacityHeavyUsage",
        ANY,
        "The region is out of capacity for new environments.",
        "choose another region, or try again later",
    ),
    CatalogEntry(
        "SkuNotAvailable", ANY, "What the template asks for is not offered in this region.", _OTHER_PLACE
    ),
    CatalogEntry(
        "LocationNotAvailableForResourceType",
        r"^(?:.*?location '(?P<place>[^']+)')?",
        "The region {place} does not offer this kind of resource.",
        "choose one of the regions that the message names",
    ),
    CatalogEntry(
        "LocationNotAvailableForResourceGroup InvalidLocation InvalidDeploymentLocation",
        ANY,
        "Azure has no such region, or resource groups cannot be there.",
        "choose a region from the list, such as swedencentral",
    ),
    CatalogEntry(
        "InvalidResourceLocation",
        r"already exists in location '(?P<there>[^']+)'",
        "A resource of this name is already in {there}; a resource cannot be moved to another region.",
        "set the region to {there}, or choose another name",
    ),
    CatalogEntry(
        "InvalidResourceGroupLocation",
        ANY,
        "The resource group exists in another region already.",
        "leave the region of the group as it is, or choose another group",
    ),
    # What exists
    CatalogEntry(
        "ResourceGroupNotFound",
        r"^(?:.*?group '(?P<name>[^']+)')?",
        "There is no resource group {name}.",
        "choose one from the list, let it be created with create_resource_group=True, or correct "
        "RESOURCE_GROUP_NAME in infra/inference.config.json",
    ),
    CatalogEntry(
        "ResourceGroupBeingDeleted",
        ANY,
        "The resource group is being deleted.",
        "wait until it is gone and run the step again, or choose another group",
    ),
    CatalogEntry(
        "DeploymentActive",
        ANY,
        "The same deployment is running already.",
        "run the step again: it attaches to the one that runs",
    ),
    CatalogEntry(
        "DeploymentQuotaExceeded",
        ANY,
        "The resource group's history holds 800 deployments, which is the limit.",
        "delete old entries under Deployments of the resource group in the portal",
    ),
    CatalogEntry(
        "ManagedEnvironmentOperationInProgress ContainerAppOperationInProgress ContainerAppLockConflict "
        "AnotherOperationInProgress StorageAccountOperationInProgress",
        ANY,
        "Another operation on the same resource is still running.",
        f"wait for it; then {_RETRY}",
    ),
    CatalogEntry(
        "WorkloadProfileInUse",
        ANY,
        "The request would take a workload profile away that an app uses.",
        "keep the environment's profiles; nbtoolkit only ever adds one",
    ),
    CatalogEntry(
        "ManagedEnvironmentNotProvisioned ManagedEnvironmentNotReadyForAppCreation "
        "ManagedEnvironmentProvisioningError",
        ANY,
        "The environment is not ready: an earlier operation on it failed or still runs.",
        "look at it in the portal; repair or delete it, or name another environment",
    ),
    CatalogEntry(
        "ManagedEnvironmentStorageNotFound",
        ANY,
        "The environment does not know the file share.",
        _RETRY,
    ),
    CatalogEntry(
        "KeyBasedAuthenticationNotPermitted",
        ANY,
        "The storage account forbids access by key, and Container Apps mounts shares by key only.",
        "allow shared key access on the storage account, or name another one",
    ),
    # The app
    CatalogEntry(
        "ContainerAppSecretRefNotFound",
        r"SecretRef '(?P<name>[^']+)'",
        "The app refers to the secret {name}, which it does not have.",
        "add the secret {name}, or remove what refers to it",
    ),
    CatalogEntry(
        "ContainerAppSecretInvalid",
        r"name\(s\) '(?P<names>[^']*)'",
        "The secrets {names} have no value or a name that Azure does not accept.",
        "give each a value; names are lower-case letters, digits and '-'",
    ),
    CatalogEntry(
        ANY,
        r"Invalid value: \\?\"(?P<image>[^\"\\]+)\\?\".*(?:MANIFEST_UNKNOWN|NAME_UNKNOWN|not found)",
        "There is no image {image}.",
        "correct image: its name and its tag",
    ),
    CatalogEntry(
        ANY,
        r"Invalid value: \\?\"(?P<image>[^\"\\]+)\\?\".*(?:UNAUTHORIZED|DENIED)",
        "The registry did not give the image {image} to Azure.",
        "set registry_server with an identity, or with a user name and the secret that holds its password",
    ),
    CatalogEntry(
        ANY,
        r"TOOMANYREQUESTS|toomanyrequests|pull rate limit",
        "The registry limits how often images are pulled (Docker Hub does).",
        "try again later, or use a registry of your own in the region",
    ),
    CatalogEntry(
        "ContainerAppOperationError",
        r"Operation expired|Deployment Progress Deadline",
        "The app's new revision did not become ready in about ten minutes.",
        "look at the app's logs for why the container does not start or where no GPU is free; "
        "an earlier revision still serves",
    ),
    CatalogEntry(
        "ResourceNotFound ParentResourceNotFound",
        r"resource '(?P<name>[^']+)'",
        "The resource {name} is missing: it was never created, or its own creation failed.",
        "settle the other causes first where there are some; else run provision(), which makes what is "
        "missing, or correct the names in infra/inference.config.json",
    ),
    # The template
    CatalogEntry(
        "InvalidTemplate",
        ANY,
        "Azure does not accept the template with these parameters.",
        "correct the parameter that the message names, in the settings or the parameter file",
    ),
    CatalogEntry(
        "DeploymentFailed",
        ANY,
        "A resource of the deployment failed, and Azure's answer does not say which.",
        "look at the deployment's operations in the portal",
    ),
    # Azure itself
    CatalogEntry(
        "InternalServerError ServiceUnavailable ServerTimeout GatewayTimeout RequestTimeout "
        "OperationTimedOut ServerBusy",
        ANY,
        "Azure itself failed or was too slow.",
        _RETRY,
    ),
    CatalogEntry(
        ANY,
        r"did not complete within the allowed timeout period",
        "Azure gave up on the resource after its time limit.",
        f"{_RETRY}; where it happens again, choose another region",
    ),
    CatalogEntry(
        "TooManyRequests SubscriptionRequestsThrottled OperationNotAllowedThrottled",
        ANY,
        "Azure limits how many requests come in at once.",
        "wait some minutes and run the step again",
    ),
)
"""The first row whose code and message fit counts: the more telling ones come first."""
