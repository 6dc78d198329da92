"""What pyproject.toml cannot say: conf/ and sweeps/ lie beside the package in a checkout, and inside it in a wheel."""

from __future__ import annotations

import os

from setuptools import setup
from setuptools.command.build_py import build_py

FOLDERS = ("conf", "sweeps")  # packed as ablate/conf and ablate/sweeps; ablate/packaged.py finds them again


class BuildPy(build_py):
    """Packs the folders with the package's data; an editable install leaves them where they are."""

    def beside(self) -> list[tuple[str, str, str, list[str]]]:
        """(package, source folder, folder in the build, file names), as setuptools lists data files."""
        return [
            ("ablate", place, os.path.join(self.build_lib, "ablate", place), files)
            for folder in FOLDERS
            for place, _, names in sorted(os.walk(folder))
            if (files := sorted(name for name in names if name.endswith(".yaml")))
        ]

    def build_package_data(self) -> None:
        super().build_package_data()
        for _, source, target, files in self.beside():
            self.mkpath(target)
            for name in files:
                self.copy_file(os.path.join(source, name), os.path.join(target, name))

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        mine = [] if self.editable_mode else self.beside()
        files = [os.path.join(target, name) for _, _, target, names in mine for name in names]
        return [*super().get_outputs(include_bytecode), *files]

    def get_data_files_without_manifest(self) -> list[tuple[str, str, str, list[str]]]:
        return [*super().get_data_files_without_manifest(), *self.beside()]  # what a source distribution needs


setup(cmdclass={"build_py": BuildPy})
