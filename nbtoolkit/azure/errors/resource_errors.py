"""Catalogue entries of quotas, regions, existing resources, the app and the template."""

from __future__ import annotations

from nbtoolkit.azure.errors.catalog import CatalogEntry
from nbtoolkit.azure.resource_id import QUOTA_PAGE

_RUN_AGAIN = "run the step again; it continues with what is not done"
_OTHER_REGION = "choose another region, or another GPU, in the settings"
_REQUEST_QUOTA = f"request more quota on {QUOTA_PAGE} (provider: Container Apps), or {_OTHER_REGION}"

RESOURCE_ERRORS = (
    # Quota and capacity
    CatalogEntry(
        codes="MaxRegionalQuotaExceeded QuotaExceeded",
        pattern=r"(?P<meter>Subscription\w*Gpus|\w*GpusEnvCount|SubscriptionNC\w*)",
        message="The subscription's GPU quota {meter} in this region is used up or zero.",
        next_step=_REQUEST_QUOTA,
    ),
    CatalogEntry(
        codes="MaxRegionalQuotaExceeded QuotaExceeded",
        message="A quota of the subscription in this region is used up or zero.",
        next_step=_REQUEST_QUOTA,
    ),
    CatalogEntry(
        codes="MaxNumberOfRegionalEnvironmentsInSubExceeded MaxNumberOfGlobalEnvironmentsInSubExceeded",
        pattern=r"^(?:.*?more than (?P<count>\d+))?",
        message="The subscription may not hold another Container Apps environment (the limit: {count}).",
        next_step="name an existing environment in acaEnvironmentName, delete one that is not used, "
        f"or request more quota on {QUOTA_PAGE}",
    ),
    CatalogEntry(
        codes="ManagedEnvironmentCapacityHeavyUsageError AKSCapacityHeavyUsage",
        message="The region is out of capacity for new environments.",
        next_step="choose another region, or try again later",
    ),
    CatalogEntry(
        codes="SkuNotAvailable",
        message="A size or tier that the template requests is not offered in this region.",
        next_step=_OTHER_REGION,
    ),
    CatalogEntry(
        codes="LocationNotAvailableForResourceType",
        pattern=r"^(?:.*?location '(?P<region>[^']+)')?",
        message="The region {region} does not offer this kind of resource.",
        next_step="choose one of the regions that the message names",
    ),
    CatalogEntry(
        codes="LocationNotAvailableForResourceGroup InvalidLocation InvalidDeploymentLocation",
        message="Azure has no such region, or it cannot hold resource groups.",
        next_step="choose a region from the list, such as swedencentral",
    ),
    CatalogEntry(
        codes="InvalidResourceLocation",
        pattern=r"already exists in location '(?P<region>[^']+)'",
        message="A resource of this name exists in {region}; a resource cannot be moved to another region.",
        next_step="set the region to {region}, or choose another name",
    ),
    CatalogEntry(
        codes="InvalidResourceGroupLocation",
        message="The resource group already exists in another region.",
        next_step="keep the region of the group, or choose another group",
    ),
    # Existing resources
    CatalogEntry(
        codes="ResourceGroupNotFound",
        pattern=r"^(?:.*?group '(?P<name>[^']+)')?",
        message="There is no resource group {name}.",
        next_step="choose one from the list, create it with create_resource_group=True, or correct "
        "RESOURCE_GROUP_NAME in infra/inference.config.json",
    ),
    CatalogEntry(
        codes="ResourceGroupBeingDeleted",
        message="The resource group is being deleted.",
        next_step="wait until it is deleted and run the step again, or choose another group",
    ),
    CatalogEntry(
        codes="DeploymentActive",
        message="The same deployment is already running.",
        next_step="run the step again: it attaches to the running deployment",
    ),
    CatalogEntry(
        codes="DeploymentQuotaExceeded",
        message="The resource group's history holds 800 deployments, which is the limit.",
        next_step="delete old entries under Deployments of the resource group in the portal",
    ),
    CatalogEntry(
        codes="ManagedEnvironmentOperationInProgress ContainerAppOperationInProgress "
        "ContainerAppLockConflict AnotherOperationInProgress "
        "StorageAccountOperationInProgress",
        message="Another operation on the same resource is still running.",
        next_step=f"wait for it; then {_RUN_AGAIN}",
    ),
    CatalogEntry(
        codes="WorkloadProfileInUse",
        message="The request would remove a workload profile that an app uses.",
        next_step="keep the environment's profiles; nbtoolkit only ever adds one",
    ),
    CatalogEntry(
        codes="ManagedEnvironmentNotProvisioned ManagedEnvironmentNotReadyForAppCreation "
        "ManagedEnvironmentProvisioningError",
        message="The environment is not ready: an earlier operation on it failed or is still running.",
        next_step="open it in the portal; repair or delete it, or name another environment",
    ),
    CatalogEntry(
        codes="ManagedEnvironmentStorageNotFound",
        message="The file share is not registered with the environment.",
        next_step=_RUN_AGAIN,
    ),
    CatalogEntry(
        codes="KeyBasedAuthenticationNotPermitted",
        message="The storage account forbids access by key, and Container Apps mounts shares by key only.",
        next_step="allow shared key access on the storage account, or name another one",
    ),
    # The app
    CatalogEntry(
        codes="ContainerAppSecretRefNotFound",
        pattern=r"SecretRef '(?P<name>[^']+)'",
        message="The app refers to the secret {name}, which it does not have.",
        next_step="add the secret {name}, or remove the reference to it",
    ),
    CatalogEntry(
        codes="ContainerAppSecretInvalid",
        pattern=r"name\(s\) '(?P<names>[^']*)'",
        message="The secrets {names} have no value or a name that Azure does not accept.",
        next_step="give each a value; names are lower-case letters, digits and '-'",
    ),
    CatalogEntry(
        pattern=r"Invalid value: \\?\"(?P<image>[^\"\\]+)\\?\".*(?:MANIFEST_UNKNOWN|NAME_UNKNOWN|not found)",
        message="There is no image {image}.",
        next_step="correct image: its name and its tag",
    ),
    CatalogEntry(
        pattern=r"Invalid value: \\?\"(?P<image>[^\"\\]+)\\?\".*(?:UNAUTHORIZED|DENIED)",
        message="The registry refused Azure access to the image {image}.",
        next_step="set registry_server with an identity, or with a user name and the secret that holds its "
        "password",
    ),
    CatalogEntry(
        pattern=r"TOOMANYREQUESTS|toomanyrequests|pull rate limit",
        message="The registry limits how often images are pulled (Docker Hub does).",
        next_step="try again later, or use a registry of your own in the region",
    ),
    CatalogEntry(
        codes="ContainerAppOperationError",
        pattern=r"Operation expired|Deployment Progress Deadline",
        message="The app's new revision did not become ready in about ten minutes.",
        next_step="look in the app's logs for a container that does not start or a GPU that is not free; "
        "an earlier revision still serves",
    ),
    CatalogEntry(
        codes="ResourceNotFound ParentResourceNotFound",
        pattern=r"resource '(?P<name>[^']+)'",
        message="The resource {name} is missing: it was never created, or its own creation failed.",
        next_step="fix the other causes first, if there are any; else run provision(), which creates missing "
        "resources, or correct the names in infra/inference.config.json",
    ),
    # The template
    CatalogEntry(
        codes="InvalidTemplate",
        message="Azure does not accept the template with these parameters.",
        next_step="correct the parameter that the message names, in the settings or the parameter file",
    ),
    CatalogEntry(
        codes="DeploymentFailed",
        message="A resource of the deployment failed, and Azure's response does not say which.",
        next_step="look at the deployment's operations in the portal",
    ),
    # Azure itself
    CatalogEntry(
        codes="InternalServerError ServiceUnavailable ServerTimeout GatewayTimeout RequestTimeout "
        "OperationTimedOut ServerBusy",
        message="Azure itself failed or was too slow.",
        next_step=_RUN_AGAIN,
    ),
    CatalogEntry(
        pattern=r"did not complete within the allowed timeout period",
        message="Azure gave up on the resource after its time limit.",
        next_step=f"{_RUN_AGAIN}; if it happens again, choose another region",
    ),
    CatalogEntry(
        codes="TooManyRequests SubscriptionRequestsThrottled OperationNotAllowedThrottled",
        message="Azure limits how many requests it accepts at once.",
        next_step="wait some minutes and run the step again",
    ),
)
"""The first entry that matches counts, so the more specific ones come first."""
