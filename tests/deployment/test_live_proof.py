"""A live endpoint is proven again at any time, on this machine, from share and workspace alone."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from nbtoolkit import LocalTarget, SmokeReport, deploy, prove
from nbtoolkit.deployment import live_proof
from nbtoolkit.endpoint import Replay
from nbtoolkit.errors import Cancelled, InvalidSettings, NotProven, NotReady, ReleaseChanged
from nbtoolkit.progress import Progress
from nbtoolkit.releases import publisher
from nbtoolkit.serving import share_layout
from nbtoolkit.serving.release import Release
from tests.support.stub_deploy import LocalProject, report
from tests.support.stub_engine import stub_logprobs


@pytest.fixture(scope="module")
def served(stub_engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalProject]:
    """A project that serves ``red``; its adapter and report are only on the share any more."""
    project = LocalProject(tmp_path_factory.mktemp("served") / "workspace")
    project.deploy("red")
    shutil.rmtree(project.workspace.reports)
    shutil.rmtree(project.workspace.root / "adapters")
    yield project
    project.target.destroy()


def fresh(project: LocalProject) -> LocalTarget:
    """Return a target as another kernel makes it."""
    return LocalTarget(project.workspace, keep=False)


def active_release(project: LocalProject) -> Release:
    active = publisher.active_pointer(project.target.share)
    assert active
    return publisher.read_release(project.target.share, active.release)


@contextmanager
def fingerprint_of(project: LocalProject, word: str) -> Generator[None]:
    """Let the report on the share contain the fingerprint of another adapter than the served one."""
    share, path = project.target.share, share_layout.report_path(active_release(project).reports["tone"])
    true = share.read(path)
    other = report(project.workspace, project.adapter(word), project.base, word)
    share.write(path, other.read_bytes(), overwrite=True)
    yield
    share.write(path, true, overwrite=True)


def test_a_served_release_is_proven_by_another_kernel(served: LocalProject) -> None:
    proof = prove(fresh(served))
    assert proof
    assert proof.raise_for_failure() is proof
    assert (proof.state, proof.release) == ("proven", active_release(served))
    assert proof.replicas == {"local": "it answered, and all its adapters are proven"}
    assert (proof.cost.requests, proof.cost.woke) == (2, False)
    for text in (str(proof), proof._repr_html_()):
        assert "proven: 16 of 16" in text
        assert "2 requests, 96 prompt tokens, 32 answer tokens" in text


def test_another_adapter_is_refuted_and_the_error_shows_the_verdict(served: LocalProject) -> None:
    with fingerprint_of(served, "blue"):
        proof = prove(fresh(served))
    assert (bool(proof), proof.state) == (False, "refuted")
    with pytest.raises(NotProven, match="refuted") as caught:
        proof.raise_for_failure()
    assert "adapter tone" in str(caught.value)
    assert caught.value.proof is proof
    assert "rollback()" in caught.value.next_step
    assert "#cf222e" in proof._repr_html_()


def test_a_deploy_meanwhile_is_not_taken_for_another_adapter(served: LocalProject) -> None:
    class DeployMeanwhile(Progress):
        def show(self, text: str) -> None:
            if text == "Proving what answers under tone":
                share, active = served.target.share, publisher.active_pointer(served.target.share)
                assert active
                publisher.publish_release(share, active.release, expected=active.n, by="somebody")

    with fingerprint_of(served, "blue"), pytest.raises(ReleaseChanged, match="somebody"):
        prove(fresh(served), progress=DeployMeanwhile())


def test_a_proof_can_be_cancelled(served: LocalProject) -> None:
    class Cancel(Progress):
        def show(self, text: str) -> None:
            if text.startswith("Proving"):
                self.cancel()

    with pytest.raises(Cancelled):
        prove(fresh(served), progress=Cancel())


def test_a_replica_that_serves_something_else_is_found(served: LocalProject) -> None:
    release = active_release(served)
    share = served.target.share
    content = share.read(share_layout.report_path(release.reports["tone"]))
    fingerprint = SmokeReport.model_validate_json(content).fingerprint
    assert fingerprint

    class TwoReplicas:
        turn = itertools.cycle(("a", "b"))

        def replay_named(self, model: str, contexts: Sequence[Sequence[int]]) -> Replay:
            replica = next(self.turn)
            says = "base" if model == "tiny" else "red" if replica == "a" else "stale"
            return Replay(answers=[stub_logprobs(says, list(c)) for c in contexts], replica=replica)

    endpoint: Any = TwoReplicas()
    replays = live_proof._Replays(endpoint, ("a", "b", "c"), Progress())
    verdicts, missing, replicas = live_proof._prove_release(release, {"tone": fingerprint}, replays)
    assert not verdicts["tone"]
    assert not missing
    assert replicas["a"] == "it answered, and all its adapters are proven"
    assert replicas["b"].startswith("tone: adapter differs")
    assert "no request reached it" in replicas["c"]


def test_nothing_deployed_an_override_and_a_stopped_server_are_not_proven(project: LocalProject) -> None:
    with pytest.raises(InvalidSettings, match="Nothing was deployed"):
        prove(fresh(project))
    untested = project.adapter("red", proven=False)
    deploy(project.settings(untested, override_reason="a <b>demo</b>"), target=project.target)
    proof = prove(fresh(project))
    assert (bool(proof), proof.state) == (False, "not proven")
    assert "without a smoke report" in proof.not_proven["tone"]
    assert "a <b>demo</b>" in str(proof)
    assert "<b>demo" not in proof._repr_html_()
    with pytest.raises(NotProven, match="not proven"):
        proof.raise_for_failure()
    project.target.stop()
    with pytest.raises(NotReady, match="it is stopped"):
        prove(fresh(project))
