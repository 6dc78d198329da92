"""The whole comparison, with tiny models."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from benchmarks.contestants import machine, roster, sources, table


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_quick_comparison(tmp_path):
    pytest.importorskip("transformers")
    out = tmp_path / "models.json"
    command = [sys.executable, str(table.ROOT / "benchmarks/models.py"), "--quick", "--check", "--out", str(out)]
    subprocess.run([*command, "--family", "gpt2", "--mode", "eager"], check=True, cwd=tmp_path)
    content = json.loads(out.read_text())
    results = content["families"]["gpt2"]["eager"]
    names = [one["name"] for one in results]
    assert names[0] == roster.OURS and {*names, *content["absent"]["gpt2"]} == {
        contestant.name for contestant in roster.FAMILIES["gpt2"]
    }
    assert all(max(one["loss_differences"]) <= 1e-4 for one in results)
    assert "| **ablate** |" in table.markdown(content)


def test_versions_are_of_packages_and_of_fetched_sources():
    found = machine.versions({"ablate", "nanogpt", "litgpt"})
    assert {"python", "torch", "ablate"} <= found.keys()
    assert found["litgpt"] == sources.INSTALLED["litgpt"] and sources.COMMITS["nanogpt"][1].startswith(found["nanogpt"])


def test_facts_of_the_machine():
    facts = machine.facts(1)
    assert facts["processor"] and facts["cores"] >= 1 and facts["memory_gib"] > 0 and facts["load_before"] >= 0
