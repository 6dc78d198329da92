"""What `ablate.agent` starts: one process of a run that has several, `python -m ablate.worker JSON`."""

from __future__ import annotations

import json
import sys

from ablate.orphans import die_with_agent


def main() -> int:
    """Do this process's part of the run that the command line describes; returns the run's exit code."""
    die_with_agent()
    from ablate.config import compose
    from ablate.training import run as train

    job = json.loads(sys.argv[1])
    return train.exit_code(lambda: train.run(compose(job["overrides"]), job["overrides"], job["command"]))


if __name__ == "__main__":
    sys.exit(main())
