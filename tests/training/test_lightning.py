"""Lightning comes without the packages that only metrics of other fields need."""

import subprocess
import sys

import pytest

IMPORT = "import sys, ablate.training.fit; print(*sorted({'scipy', 'transformers', 'matplotlib'} & set(sys.modules)))"


def test_training_imports_nothing_that_only_metrics_need():
    pytest.importorskip("transformers")
    done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_packages_are_there_afterwards():
    code = (
        "import ablate.training.lightning, scipy.stats, matplotlib\n"
        "from lightning_utilities.core.imports import RequirementCache, package_available\n"
        "assert package_available('scipy') and RequirementCache('scipy')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_metric_of_text_still_works():
    code = (
        "import ablate.training.lightning\nfrom torchmetrics.text import Perplexity\nimport torch\n"
        "metric = Perplexity()\nmetric.update(torch.zeros(1, 4, 8), torch.zeros(1, 4, dtype=torch.long))\n"
        "assert abs(metric.compute().item() - 8) < 1e-4\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_only_the_named_packages_are_reported_absent():
    from lightning_utilities.core import imports

    from ablate.training.lightning import reported_absent

    with reported_absent(frozenset({"scipy"})):
        assert not imports.package_available("scipy") and imports.package_available("numpy")
        assert not imports.package_available("no_such_package")
        assert not imports.RequirementCache("scipy>=0.1") and imports.RequirementCache("numpy>=1.0")
    assert imports.package_available("scipy")
