"""Hydra's multirun under a real Ctrl-C."""

import signal
import subprocess
import sys
import time

TEXT = "\n\n".join(f"{number} is one more than {number - 1}, said the clock." for number in range(2000))


def test_ctrl_c_ends_a_multirun_at_once_and_says_what_was_run(tmp_path):
    (tmp_path / "text.txt").write_text(TEXT)
    words = ["train", "-m", "seed=0,1", "data=local", "data.files=[text.txt]", "trainer=cpu", "trainer.steps=100000"]
    command = [sys.executable, "-m", "ablate", *words, "trainer.log_every=1"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        limit = time.monotonic() + 120
        while time.monotonic() < limit and process.poll() is None:
            if any(len(path.read_text().splitlines()) > 2 for path in tmp_path.glob("runs/*/*/*/metrics.csv")):
                break
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, said
    assert len(list(tmp_path.glob("runs/*/*/seed-*"))) == 1
    assert any(line.startswith("interrupted") and "seed.base=0" in line for line in said.splitlines()), said
