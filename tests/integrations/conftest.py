"""W&B as it is on a machine of nobody's, and a service for it on loopback."""

import pytest

from tests.integrations.wandb_service import serving

CANARY = "c0ffee" * 6 + "feed"


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """No login of whoever runs the tests, and W&B as offline as it is by itself."""
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_ENTITY", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))


@pytest.fixture
def service(monkeypatch):
    """The stand-in for the service, which W&B finds with a key, and to which it sends every second."""
    with serving() as service:
        monkeypatch.setenv("WANDB_BASE_URL", service.url)
        monkeypatch.setenv("WANDB_API_KEY", CANARY)
        monkeypatch.setenv("WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL", "1")
        yield service
