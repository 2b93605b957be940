"""Convert an adapter's pickled weights: ``python -m nbtoolkit.smoke.model_level.convert_pickle FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

from nbtoolkit.errors import InvalidAdapter, NbtoolkitError
from nbtoolkit.models.adapter import WEIGHTS
from nbtoolkit.smoke.static.adapter_files import PICKLES


def convert(folder: Path) -> Path:
    """Write ``adapter_model.safetensors`` next to the pickle, which is loaded without running its code.

    Raises :class:`InvalidAdapter` if there is no pickle, if the safetensors file exists already, or if the
    pickle contains more than tensors. Imports torch.
    """
    target = folder / WEIGHTS
    source = next((folder / name for name in PICKLES if (folder / name).is_file()), None)
    if source is None or target.exists():
        cause = f"{WEIGHTS} exists already" if target.exists() else f"it has none of {', '.join(PICKLES)}"
        raise InvalidAdapter(f"Nothing to convert in {folder}: {cause}.", next_step="run the smoke test")
    import pickle

    import torch
    from safetensors.torch import save_file

    try:
        content = torch.load(source, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise InvalidAdapter(
            f"{source} contains more than tensors, or is damaged: {str(error).splitlines()[0]}",
            next_step="do not open it; ask its author for safetensors",
        ) from error
    save_file(
        {name: tensor.contiguous().clone() for name, tensor in content.items()}, target, {"format": "pt"}
    )
    return target


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{convert(Path(sys.argv[1]))}\n")
    except (IndexError, NbtoolkitError) as problem:
        raise SystemExit(str(problem) if sys.argv[1:] else __doc__) from problem
