"""Build hook: a wheel for one platform brings the C kernel built, if INNAPROP_KERNEL=1 says so.

Without, the wheel is pure, and the kernel is built by the user's compiler at the first step. The
platform is that of ``sysconfig.get_platform()``, which _PYTHON_HOST_PLATFORM changes for a compiler
that builds for another.
"""

import os
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class KernelHook(BuildHookInterface[Any]):
    """Builds the kernel and puts it into the wheel, beside its source."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the kernel, unless the wheel is pure or editable."""
        if os.environ.get("INNAPROP_KERNEL") != "1" or version == "editable":
            return
        sys.path[:0] = [self.root, str(Path(self.root, "adapters"))]
        from innaprop.forms import kernel

        self._folder = tempfile.TemporaryDirectory()
        built = kernel.build(Path(self._folder.name))
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform}"
        build_data["force_include"][str(built)] = f"innaprop/forms/{built.name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was built."""
        if hasattr(self, "_folder"):
            self._folder.cleanup()
