"""A W&B workspace for sweeps: panels by section, runs grouped by row.

    python -m ablate.integrations.wandb_workspace --project ablate           writes wandb_workspace.json
    python -m ablate.integrations.wandb_workspace --project ablate --save    saves it in the project, with your key

It needs the extra `wandb` of the package, `wandb-workspaces`. Not seen on a real server: the file is what
`wandb-workspaces` makes of the description here, and would send.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ablate.errors import UserError, print_error
from ablate.run.files import atomic_write

FILE = "wandb_workspace.json"
CURVES = {  # section: metrics over the steps, which `wandb_mirror` logs
    "Loss": ("train/loss", "validation/loss", "validation/bits_per_byte"),
    "Optimisation": ("train/grad_norm", "train/learning_rate"),
}
NUMBERS = {  # section: numbers of the summary, a bar for each row
    "Result": ("loss/final", "loss/early", "loss/bits_per_byte"),
    "Cost": (
        "parameters/total",
        "ops_paper",
        "steps_per_second/median",
        "tokens_per_second",
        "peak_memory_bytes",
        "data_wait_fraction",
    ),
}
REPORT = ("results", "runs")  # the tables of the run `report`
ROW = "JobType"  # what W&B calls a run's row


def workspace(project: str, entity: str) -> Any:
    """The workspace, as an object of `wandb-workspaces`; raises `UserError` where that is not installed."""
    try:
        import wandb_workspaces.reports.v2 as panels
        import wandb_workspaces.workspaces as ws
    except ImportError:
        raise UserError("a workspace needs wandb-workspaces: pip install wandb-workspaces") from None

    def line(metric: str) -> Any:
        return panels.LinePlot(title=metric, x="step", y=[metric], groupby=ROW, groupby_rangefunc="minmax")

    def bar(number: str) -> Any:
        return panels.BarPlot(title=number, metrics=[number], groupby=ROW)

    sections = [
        *(ws.Section(name=name, panels=[line(metric) for metric in metrics]) for name, metrics in CURVES.items()),
        *(ws.Section(name=name, panels=[bar(number) for number in numbers]) for name, numbers in NUMBERS.items()),
        ws.Section(name="Report", panels=[panels.WeavePanelSummaryTable(table_name=table) for table in REPORT]),
    ]
    for section in sections:
        section.is_open = True
    return ws.Workspace(
        name="ablate: rows",
        entity=entity,
        project=project,
        sections=sections,
        settings=ws.WorkspaceSettings(x_axis="step", max_runs=50),
        runset_settings=ws.RunsetSettings(groupby=[ws.Metric("Group"), ws.Metric(ROW)]),
    )


def specification(project: str, entity: str) -> dict[str, Any]:
    """The workspace as W&B stores it."""
    content = workspace(project, entity)._to_model().model_dump(mode="json", by_alias=True, exclude_none=True)
    return dict(content)


def run(words: Sequence[str]) -> None:
    """Write the workspace, or save it in its project."""
    parser = argparse.ArgumentParser(prog="python -m ablate.integrations.wandb_workspace", description=__doc__)
    parser.add_argument("--project", default="ablate")
    parser.add_argument("--entity", default="", help="the account; your own by default")
    parser.add_argument("--file", type=Path, default=Path(FILE))
    parser.add_argument("--save", action="store_true", help="in the project, with your key, instead of in the file")
    asked = parser.parse_args(words)
    if asked.save:
        print(workspace(asked.project, asked.entity).save().url)
        return
    atomic_write(asked.file, json.dumps(specification(asked.project, asked.entity), indent=1) + "\n")
    print(asked.file)


if __name__ == "__main__":
    try:
        run(sys.argv[1:])
    except UserError as error:
        print_error(error)
        sys.exit(error.exit_code)
