"""Validation of an app's body: resources, references, probes, scale, names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .app_versions import refusal
from .gpu_quota import MACHINES, profiles_of
from .http import Refused

PROBE_LIMITS = {
    "failureThreshold": (1, 10),
    "initialDelaySeconds": (0, 60),
    "periodSeconds": (1, 240),
    "successThreshold": (1, 10),
    "timeoutSeconds": (1, 240),
}
NAME = re.compile(r"[a-z](?!.*--)[a-z0-9-]{0,30}[a-z0-9]")


def check(
    name: str,
    document: Mapping[str, Any],
    environment: Mapping[str, Any],
    storages: Callable[[str], bool],
    old_secrets: Mapping[str, str],
    inactive: Iterable[tuple[str, Mapping[str, Any]]],
) -> None:
    """Refuse an invalid body; `storages` tests for a storage, `inactive` has old templates by revision."""
    properties = document["properties"]
    template, configuration = properties["template"], properties["configuration"]
    if not NAME.fullmatch(name):
        raise refusal(
            400,
            "ContainerAppInvalidName",
            f"Invalid ContainerApp name '{name}'. A name must consist of lower case alphanumeric characters "
            "or '-', start with an alphabetic character, and end with an alphanumeric character and cannot "
            "have '--'. The length must not be more than 32 characters.",
        )
    profile = _profile(properties["workloadProfileName"], environment)
    if not template["containers"]:
        raise _invalid("template.containers", "Container app must have at least one container.")
    _check_resources(template["containers"], profile)
    secrets = _check_secrets(configuration)
    _check_references(template, configuration, secrets)
    for gone in set(old_secrets) - secrets:
        for revision, old in inactive:
            if gone in _references(old):
                raise refusal(
                    400,
                    "ContainerAppSecretInUse",
                    f"Unable to remove secret '{gone}' because it is referenced by revision '{revision}'.",
                )
    _check_volumes(template, storages)
    _check_scale(template, configuration)
    for container in template["containers"]:
        for probe in container.get("probes") or []:
            _check_probe(container["name"], probe)


def _profile(name: str | None, environment: Mapping[str, Any]) -> str:
    profiles = profiles_of(environment)
    if name is None:
        return "Consumption"
    for profile in profiles:
        if profile["name"] == name:
            return profile["workloadProfileType"]
    raise refusal(
        400,
        "WorkloadProfileNotFound",
        f"Workload profile '{name}' was not found in environment '{environment['name']}'. "
        f"Available profiles: {', '.join(profile['name'] for profile in profiles)}.",
    )


def _check_resources(containers: list[dict[str, Any]], type: str) -> None:
    cpu = sum(float(one["resources"]["cpu"]) for one in containers)
    memory = sum(_gibibytes(one["resources"]["memory"]) for one in containers)
    machine = MACHINES[type]
    fits = cpu <= machine.cpu and memory <= machine.memory
    if type == "Consumption":
        fits = fits and (cpu * 4) == int(cpu * 4) and memory == 2 * cpu and cpu >= 0.25
    if not fits:
        pairs = "; ".join(f"[cpu: {n / 4:g}, memory: {n / 2:g}Gi]" for n in range(1, 17))
        allowed = (
            pairs
            if type == "Consumption"
            else f"at most [cpu: {machine.cpu:g}, memory: {machine.memory:g}Gi]"
        )
        raise refusal(
            400,
            "ContainerAppInvalidResourceTotal",
            f"The total requested CPU and memory resources for this application (CPU: {cpu:g}, memory: "
            f"{memory:g}) is invalid. Total CPU and memory for all containers defined in a Container App "
            f"must add up to one of the following CPU - Memory combinations: {allowed}",
        )


def _gibibytes(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(Gi|Mi)", text)
    if not found:
        raise _invalid("template.containers.resources.memory", f'Invalid value: "{text}"')
    return float(found[1]) / (1 if found[2] == "Gi" else 1024)


def _check_secrets(configuration: Mapping[str, Any]) -> set[str]:
    given = configuration["secrets"] or []
    for secret in given:
        if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", secret.get("name") or ""):
            raise _secret_invalid(
                secret.get("name"), "a name must consist of lower case alphanumeric characters, '-' or '.'"
            )
        if not secret.get("value") and not secret.get("keyVaultUrl"):
            raise _secret_invalid(secret["name"], "value or keyVaultUrl and identity should be provided")
    return {secret["name"] for secret in given}


def _secret_invalid(name: Any, why: str) -> Refused:
    return refusal(
        400,
        "ContainerAppSecretInvalid",
        f"Invalid Request: Container app secret(s) with name(s) '{name}' are invalid: {why}.",
    )


def _references(template: Mapping[str, Any]) -> set[str]:
    found: set[str] = set()
    for container in [*template["containers"], *(template.get("initContainers") or [])]:
        found |= {one["secretRef"] for one in container.get("env") or [] if one.get("secretRef")}
    for rule in (template.get("scale") or {}).get("rules") or []:
        for kind in ("http", "tcp", "custom", "azureQueue"):
            found |= {one["secretRef"] for one in (rule.get(kind) or {}).get("auth") or []}
    return found


def _check_references(
    template: Mapping[str, Any], configuration: Mapping[str, Any], secrets: set[str]
) -> None:
    for container in template["containers"]:
        for one in container.get("env") or []:
            if one.get("secretRef") and one["secretRef"] not in secrets:
                raise refusal(
                    400,
                    "ContainerAppSecretRefNotFound",
                    f"SecretRef '{one['secretRef']}' defined for container '{container['name']}' not found.",
                )
    for registry in configuration["registries"] or []:
        reference = registry["passwordSecretRef"]
        if reference and reference not in secrets:
            raise refusal(
                400,
                "ContainerAppSecretRefNotFound",
                f"SecretRef '{reference}' defined for registry server '{registry['server']}' not found.",
            )


def _check_volumes(template: Mapping[str, Any], storages: Callable[[str], bool]) -> None:
    volumes = {volume["name"]: volume for volume in template["volumes"] or []}
    for volume in volumes.values():
        if volume.get("storageType") == "AzureFile" and not storages(volume.get("storageName", "")):
            raise refusal(
                400,
                "ManagedEnvironmentStorageNotFound",
                f"ManagedEnvironment Storage '{volume.get('storageName')}' was not found.",
            )
    for container in template["containers"]:
        for mount in container.get("volumeMounts") or []:
            if mount["volumeName"] not in volumes:
                raise _invalid(
                    "template.containers.volumeMounts", f"Volume '{mount['volumeName']}' is not defined."
                )


def _check_scale(template: Mapping[str, Any], configuration: Mapping[str, Any]) -> None:
    scale, ingress = template["scale"], configuration["ingress"] or {}
    least, most = scale["minReplicas"] or 0, scale["maxReplicas"]
    if not 0 <= least <= 1000 or not 1 <= most <= 1000 or least > most:
        raise _invalid(
            "template.scale", f"minReplicas {least} and maxReplicas {most} are not possible together."
        )
    grace = template["terminationGracePeriodSeconds"]
    if grace is not None and not 0 <= grace <= 600:
        raise _invalid(
            "template.terminationGracePeriodSeconds", f"Invalid value: {grace}: must be between 0 and 600."
        )
    sticky = (ingress.get("stickySessions") or {}).get("affinity") == "sticky"
    if sticky and configuration["activeRevisionsMode"] != "Single":
        raise _invalid(
            "configuration.ingress.stickySessions", "Sticky sessions need the single revision mode."
        )
    if ingress and ingress["transport"] != "Tcp" and not ingress["targetPort"] and ingress["targetPort"] != 0:
        raise _invalid("configuration.ingress.targetPort", "A target port is required.")


def _check_probe(container: str, probe: Mapping[str, Any]) -> None:
    for name, (least, most) in PROBE_LIMITS.items():
        value = probe.get(name)
        if value is not None and not least <= value <= most:
            raise _invalid(
                f"template.containers.{container}.probes.{name}",
                f"Invalid value: {value}: must be between {least} and {most}.",
            )
    if not probe.get("httpGet") and not probe.get("tcpSocket"):
        raise _invalid(f"template.containers.{container}.probes", "A probe needs httpGet or tcpSocket.")


def _invalid(field: str, why: str) -> Refused:
    return refusal(
        400,
        "InvalidParameterValueInContainerTemplate",
        f"The following field(s) are either invalid or missing. Field '{field}' is invalid with details: "
        f"'{why}';.",
    )
