"""What `ablate.agent` starts: one process of a run that has several, `python -m ablate.worker JSON`."""

from __future__ import annotations

import json
import sys

from ablate.orphans import die_with_agent


def main() -> int:
    """Do this process's part of a run; returns the run's exit code.

    The command line has the job: `config`, of the run, and the `overrides` and the `command` that are recorded with it.
    """
    die_with_agent()
    from ablate.config import restored
    from ablate.training import run as train

    job = json.loads(sys.argv[1])
    return train.exit_code(lambda: train.run(restored(job["config"]), job["overrides"], job["command"]))


if __name__ == "__main__":
    sys.exit(main())
