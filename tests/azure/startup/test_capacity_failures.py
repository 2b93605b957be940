"""The cause of a provision that failed because replicas did not become ready."""

from __future__ import annotations

import pytest

from nbtoolkit.azure.container_apps.revisions import ReplicaState
from nbtoolkit.azure.startup.capacity_failures import with_replica_details
from nbtoolkit.azure.startup.timeline import StartupEvent
from nbtoolkit.errors import ProvisionFailed
from nbtoolkit.progress import Progress
from tests.azure.startup.conftest import app_of
from tests.support.replica_states import replica

UNREADY = ProvisionFailed(
    "The deployment failed:\n  tones: not ready (Azure: Operation expired.)", next_step="see", causes=[1]
)


@pytest.mark.parametrize(
    ("replicas", "events", "reason", "step"),
    [
        ([replica("Waiting", "AssigningReplica", name="tones--r-1")], [], "has no capacity", "gpu='T4'"),
        ([], [StartupEvent("tones--r-1", "AssigningReplica")], "has no capacity", "gpu='T4'"),
        ([replica("Waiting", "ImagePullBackOff", name="tones--r-1")], [], "cannot be pulled", "registry"),
        (
            [],
            [StartupEvent("tones--r-1", "AssigningReplica"), StartupEvent("tones--r-1", "PullingImage")],
            None,
            "see",
        ),
        (
            [],
            [StartupEvent("tones--old-1", "AssigningReplica"), StartupEvent("tones", "RevisionFailed")],
            None,
            "see",
        ),
    ],
)
@pytest.mark.usefixtures("gpu_quota")
def test_failed_provision_has_the_failure_of_its_replicas(
    replicas: list[ReplicaState], events: list[StartupEvent], reason: str | None, step: str
) -> None:
    error = with_replica_details(UNREADY, app_of(*replicas), Progress(), lambda _: events)
    assert step in error.next_step
    assert "Operation expired" in error.message
    assert getattr(error, "causes", None) == [1]
    assert (error is UNREADY) == (reason is None)
    assert (reason or "") in error.message


def test_other_provision_errors_stay_unchanged() -> None:
    other = ProvisionFailed("The quota is used up.", next_step="see", causes=[])
    found = with_replica_details(other, app_of(), Progress(), lambda _: pytest.fail("events were read"))
    assert found is other
