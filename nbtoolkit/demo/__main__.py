"""Run the quickstart notebook headless and print its results: ``python -m nbtoolkit.demo``."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from nbtoolkit.local.target import LocalTarget
from nbtoolkit.progress import Progress
from nbtoolkit.workspace import Workspace

NOTEBOOK = Path("notebooks/00_quickstart.ipynb")
EXIT_TIMEOUT = 40
"""Seconds; a server finishes running answers for up to 30 s before it exits."""
_QUIET = "--IPKernelApp.log_level=CRITICAL"
"""Hides the kernel's warnings of its transport and of the interrupt that ends it."""


def main(arguments: list[str] | None = None) -> int:
    """Run the notebook with papermill; return 0 if every cell succeeded, else 1."""
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
    """Run the notebook in ``root``; print its output during the run and its results at the end."""
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
    """Wait until the server, which exits with the kernel, has exited; return what happened as text."""
    target = LocalTarget(Workspace(root))
    if not Progress().wait_until(lambda: not target.replicas(), timeout=EXIT_TIMEOUT, interval=0.1):
        return "a server that ran before the demo still runs (LocalTarget().stop() ends it)"
    target.stop()  # waits until a server that is exiting has exited
    return "the server ended with the run"


def print_results(notebook: Path) -> None:
    """Print the plain text of every result in a notebook."""
    import nbformat

    for cell in nbformat.read(notebook, as_version=4).cells:
        for output in cell.get("outputs", []):
            text = output.get("data", {}).get("text/plain")
            if text:
                print(f"\n{text}")


if __name__ == "__main__":
    sys.exit(main())
