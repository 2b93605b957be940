"""A first provision whose container never starts: the cause out of its replicas, with what to do."""

from __future__ import annotations

import pytest

from nbtoolkit.errors import ProvisionFailed
from tests.provisioning.test_provision import Place, place

__all__ = ["place"]


def test_a_provision_without_a_machine_for_its_app_says_so(place: Place) -> None:
    place.double.apps.limits.deadline = 1
    place.double.apps.hold(place.names.app)
    with pytest.raises(ProvisionFailed, match="Azure has assigned no machine") as failed:
        place.group().run()
    assert "no capacity for one in this region" in failed.value.message
    assert "another region" in failed.value.next_step
