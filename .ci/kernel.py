"""Checks that an installed wheel contains the compiled C kernel.

The check has no compiler and no cache, and fails if a process is started. If PyTorch is installed,
the default optimizer makes a step.
"""

import ctypes
import importlib.util
import os
import sys
import tempfile
import warnings
from pathlib import Path

with tempfile.TemporaryDirectory() as folder:
    # Not even root can create a folder below a file.
    blocked = Path(folder, "file")
    blocked.touch()
    os.environ |= {"PATH": folder, "CC": "", "INNAPROP_CACHE": str(blocked / "cache")}

    import innaprop
    from innaprop.forms import kernel

    if importlib.util.find_spec("torch"):
        import torch

        from innaprop.torch import INNAprop

    started: list[str] = []
    sys.addaudithook(
        lambda event, _: started.append(event) if event == "subprocess.Popen" else None
    )
    library = kernel.load()
    assert isinstance(library, ctypes.CDLL), library
    assert Path(library._name).parent == kernel.SOURCE.parent, library._name
    done = "is loaded"
    if importlib.util.find_spec("torch"):
        p = torch.nn.Parameter(torch.ones(100_000))
        p.grad = torch.ones_like(p)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            INNAprop([p], lr=1e-3).step()
        assert bool((p < 1).all())
        done = f"makes the default optimizer's step in PyTorch {torch.__version__}"
    assert not started, started
    assert [path.name for path in Path(folder).iterdir()] == ["file"]
    print(
        f"innaprop {innaprop.__version__}: {Path(library._name).name} {done}, nothing is compiled"
    )
