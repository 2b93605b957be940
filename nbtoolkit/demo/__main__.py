"""Run the quickstart notebook headless and print what happened: ``python -m nbtoolkit.demo``."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from nbtoolkit.local import LocalTarget
from nbtoolkit.workspace import Workspace

NOTEBOOK = Path("notebooks/00_quickstart.ipynb")
ENDING_SECONDS = 40
"""A server finishes running answers for up to 30 s before it ends."""
_QUIET = "--IPKernelApp.log_level=CRITICAL"
"""The kernel itself warns of its transport and of the interrupt that ends it, which would alarm a reader."""


def main(arguments: list[str] | None = None) -> int:
    """Run the notebook by papermill; return 0 where every cell succeeded, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m nbtoolkit.demo", description=__doc__)
    parser.add_argument("--adapter", help="a LoRA folder; the default is the demo's tone-emotion")
    parser.add_argument("--base", help="the base model's folder or hub name; the default is the demo's")
    options = parser.parse_args(arguments)
    workspace = Workspace.find()
    output = workspace.state / "demo" / NOTEBOOK.name
    output.parent.mkdir(parents=True, exist_ok=True)
    chosen = {"adapters": options.adapter, "base": options.base}
    return run(workspace.root, output, {name: value for name, value in chosen.items() if value})


def run(root: Path, output: Path, parameters: dict[str, str]) -> int:
    """Run the notebook in ``root``; its prints appear as they come, its results at the end."""
    from papermill import PapermillExecutionError, execute_notebook

    start = time.monotonic()
    error = None
    try:
        execute_notebook(
            root / NOTEBOOK,
            output,
            parameters=parameters,
            cwd=root,
            progress_bar=False,
            stdout_file=sys.stdout,
            stderr_file=sys.stderr,
            extra_arguments=[_QUIET],
        )
    except PapermillExecutionError as caught:
        error = caught
    print_results(output)
    print(f"\nThe notebook with all outputs: {output}")
    if error is not None:
        print(
            f"\nThe run failed in cell {error.cell_index + 1}.\n{error.ename}: {error.evalue}",
            file=sys.stderr,
        )
        return 1
    print(f"Done in {time.monotonic() - start:.0f} s; {wait_for_server_exit(root)}.")
    return 0


def wait_for_server_exit(root: Path) -> str:
    """Wait for the server, which ends with the kernel; one that was kept before the run goes on."""
    target = LocalTarget(Workspace(root))
    deadline = time.monotonic() + ENDING_SECONDS
    while target.replicas():
        if time.monotonic() > deadline:
            return "a server that ran before the demo still runs (LocalTarget().stop() ends it)"
        time.sleep(0.1)
    target.stop()  # it is ending: this waits until it has ended
    return "the server ended with the run"


def print_results(notebook: Path) -> None:
    """Print the plain text of every result that a notebook shows."""
    import nbformat

    for cell in nbformat.read(notebook, as_version=4).cells:
        for output in cell.get("outputs", []):
            text = output.get("data", {}).get("text/plain")
            if text:
                print(f"\n{text}")


if __name__ == "__main__":
    sys.exit(main())
