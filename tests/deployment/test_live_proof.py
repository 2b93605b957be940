"""A live endpoint is proven again at any time, on this machine, from share and workspace alone."""

from __future__ import annotations

import hashlib
import itertools
import shutil
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from nbtoolkit import LocalTarget, deploy, prove
from nbtoolkit.deployment import live_proof
from nbtoolkit.deployment.fingerprint_proof import read_reports
from nbtoolkit.deployment.proof_requests import ProofRequests
from nbtoolkit.endpoint import Replay
from nbtoolkit.errors import Cancelled, InvalidSettings, NotProven, NotReady, ReleaseChanged
from nbtoolkit.golden.prompt_parser import parse_prompt
from nbtoolkit.progress import Progress
from nbtoolkit.releases import publisher
from nbtoolkit.serving import share_layout
from nbtoolkit.serving.fingerprint import Fingerprint, Probe
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
def publish_unserved(project: LocalProject, word: str) -> Generator[None]:
    """Publish a release whose fingerprint is another adapter's; the server refuses it and serves on."""
    share, served = project.target.share, active_release(project)
    content = report(project.workspace, project.adapter(word), project.base, word).read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    share.write(share_layout.report_path(sha256), content, overwrite=True)
    other = served.model_copy(update={"reports": {"tone": sha256}})
    share.write(share_layout.release_path(other.id), other.model_dump_json().encode(), overwrite=True)
    publish(project, other.id, "test")
    yield
    publish(project, served.id, "test")


def publish(project: LocalProject, release_id: str, by: str) -> None:
    active = publisher.active_pointer(project.target.share)
    assert active
    publisher.publish_release(project.target.share, release_id, expected=active.n, by=by)


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
    with publish_unserved(served, "blue"):
        proof = prove(fresh(served))
    assert (bool(proof), proof.state) == (False, "refuted")
    with pytest.raises(NotProven, match="refuted") as caught:
        proof.raise_for_failure()
    assert "adapter tone" in str(caught.value)
    assert caught.value.proof is proof
    assert "rollback()" in caught.value.next_step
    assert "refuted" in proof._repr_html_()


def test_a_deploy_meanwhile_is_not_taken_for_another_adapter(served: LocalProject) -> None:
    class DeployMeanwhile(Progress):
        def show(self, text: str) -> None:
            if text == "Proving what answers under tone":
                publish(served, active_release(served).id, "somebody")

    with publish_unserved(served, "blue"), pytest.raises(ReleaseChanged, match="somebody"):
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
    reports = read_reports(served.target.share, release)

    class TwoReplicas:
        turn = itertools.cycle(("a", "b"))

        def replay_named(self, model: str, contexts: Sequence[Sequence[int]]) -> Replay:
            replica = next(self.turn)
            says = "base" if model == "tiny" else "red" if replica == "a" else "stale"
            return Replay(answers=[stub_logprobs(says, list(c)) for c in contexts], replica=replica)

    endpoint: Any = TwoReplicas()
    requests = ProofRequests(endpoint, ("a", "b", "c"), Progress())
    verdicts, missing, replicas = live_proof._prove_release(release, reports, requests, None)
    assert not verdicts["tone"]
    assert not missing
    assert replicas["a"] == "it answered, and all its adapters are proven"
    assert replicas["b"].startswith("tone: adapter differs")
    assert "no request reached it" in replicas["c"]


def test_a_refuted_replica_counts_more_than_one_that_is_not_distinguishable() -> None:
    same = {1: -0.5, 2: -1.5}
    probe = Probe(context=(1, 2), base=same, adapter=same, noise={"float32": 0.0})
    fingerprint = Fingerprint(adapter_sha256="a" * 64, base_sha256="b" * 64, dtype="float32", probes=(probe,))
    replays = [Replay(answers=[same], replica="a"), Replay(answers=[{3: -0.1}], replica="b")]
    requests: Any = SimpleNamespace(
        replicas=("a", "b"), replay=lambda *_: {one.replica: one.answers for one in replays}
    )
    release: Any = SimpleNamespace(base=SimpleNamespace(name="base"), adapters=[SimpleNamespace(name="tone")])
    report: Any = SimpleNamespace(fingerprint=fingerprint)
    verdicts, _, replicas = live_proof._prove_release(release, {"tone": report}, requests, "float32")
    assert verdicts["tone"].refuted
    assert "not distinguishable" in replicas["a"]


def test_golden_prompts_are_asked_and_a_failed_must_refutes(served: LocalProject) -> None:
    prompts = [
        parse_prompt({"id": "word", "prompt": "hi", "max_tokens": 2, "must": {"contains": "red"}}, ""),
        parse_prompt({"id": "other", "prompt": "hi", "must": {"contains": "blue <b>"}}, ""),
        parse_prompt({"id": "refused", "prompt": "REFUSE", "must": {"contains": "red"}}, ""),
        parse_prompt({"id": "nice", "prompt": "hi", "nice": {"contains": "blue"}}, ""),
    ]
    requests = ProofRequests(fresh(served).endpoint(), ("local",), Progress())
    result = requests.ask_golden("tone", prompts)
    assert (bool(result), result.asked, sorted(result.failed)) == (False, 3, ["other", "refused"])
    assert "does not contain 'blue <b>'" in result.failed["other"]
    assert (requests.cost.golden_prompts, requests.cost.golden_tokens) == (3, 130)
    proof = replace(prove(fresh(served)), golden={"tone": result})
    assert (bool(proof), proof.state) == (False, "refuted")
    assert "1 of 3 golden prompts pass" in str(proof)
    assert "<b>" not in proof._repr_html_().replace("<div", "")
    assert bool(requests.ask_golden("tone", prompts[:1]))


def test_golden_prompts_are_plain_text_without_a_chat_template() -> None:
    class Completions:
        asked: list[str] = []  # noqa: RUF012

        def complete(self, prompt: str, model: str, **sampling: Any) -> str:
            self.asked.append(prompt)
            return f"red of {model}, {sampling['max_tokens']} tokens"

    endpoint: Any = Completions()
    prompt = parse_prompt({"prompt": "hi", "system": "Be short.", "must": {"contains": "red of tone, 64"}})
    assert ProofRequests(endpoint, ("a",), Progress()).ask_golden("tone", [prompt], chat=False)
    assert Completions.asked == ["Be short.\nhi"]


def test_a_changed_report_on_the_share_proves_nothing(served: LocalProject) -> None:
    share, path = served.target.share, share_layout.report_path(active_release(served).reports["tone"])
    content = share.read(path)
    share.write(path, content.replace(b'"adapter"', b' "adapter"', 1), overwrite=True)
    proof = prove(fresh(served))
    share.write(path, content, overwrite=True)
    assert proof.state == "not proven"
    assert "changed" in proof.not_proven["tone"]


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
    with pytest.raises(NotReady, match=r"Nothing can be proven on .*: it was stopped"):
        prove(fresh(project))


def test_a_misspelt_target_is_refused() -> None:
    with pytest.raises(InvalidSettings, match="There is no target 'azur'"):
        prove("azur")  # type: ignore[arg-type]
