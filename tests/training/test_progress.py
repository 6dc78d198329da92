"""What a run under way counts, and that a checkpoint holds all of it."""

from __future__ import annotations

from ablate.training.progress import FIRST_STEPS, REMEMBERED, Progress


def advanced(steps=100):
    """Some steps, the last of them a spike, in two windows."""
    progress = Progress()
    for step in range(steps):
        if step == steps - 4:
            progress.new_window()
        loss = 5 + step % 3 if step < steps - 1 else 99.0
        progress.spikes.take(step + 1, loss, 1.0)
        progress.take(loss, 1.0, 0.1, data_wait=0.001 * step)
    return progress


def test_the_mean_is_of_the_steps_since_the_last_window():
    progress = Progress()
    assert progress.mean_loss() == 0.0
    for loss in (1.0, 4.0):
        progress.take(loss, 1.0, 0.1, 0.0)
    assert progress.mean_loss() == 2.5
    progress.new_window()
    progress.take(8.0, 2.0, 0.2, 0.0)
    assert (progress.step, progress.mean_loss(), progress.gradient_norm, progress.learning_rate) == (3, 8.0, 2.0, 0.2)


def test_a_checkpoint_holds_all_of_it():
    progress, again = advanced(), Progress()
    assert progress.spikes.count == 1 and progress.seconds > 0
    again.load_state_dict(progress.state_dict())
    assert (again.step, again.mean_loss(), again.seconds) == (100, progress.mean_loss(), progress.seconds)
    assert again.timer.durations == progress.timer.durations and again.timer.waits == progress.timer.waits
    assert again.timer.data_wait_fraction() == progress.timer.data_wait_fraction()
    assert again.spikes.fields() == progress.spikes.fields() != {}
    for one in (progress, again):  # the next window's mean, too
        one.take(1.0, 1.0, 0.1, 0.0)
    assert again.mean_loss() == progress.mean_loss()


def test_a_checkpoint_of_an_older_version_has_no_spikes():
    state = advanced().state_dict()
    del state["spikes"]
    again = Progress()
    again.load_state_dict(state)
    assert again.step == 100 and again.spikes.fields() == {}


def test_no_more_durations_are_kept_than_are_asked_for():
    timer = advanced(REMEMBERED + 3).timer
    assert len(timer.durations) == len(timer.waits) == REMEMBERED and timer.waits[0] == 0.003


def test_each_of_the_first_steps_has_a_line_once():
    progress = Progress()
    for step in range(1, FIRST_STEPS + 3):
        progress.take(float(step), step / 2, 0.1, 0.0)
        if step == 10:
            lines = progress.first_steps()
            assert [(line["step"], line["loss"], line["grad_norm"]) for line in lines] == [
                (step, float(step), step / 2) for step in range(1, 11)
            ]
    again = Progress()
    again.load_state_dict(progress.state_dict())
    assert again.first_steps() == progress.first_steps() != []
    assert progress.first_steps() == []
    state = progress.state_dict()
    del state["first_steps"]  # an older version's checkpoint
    again.load_state_dict(state)
    assert again.first_steps() == []
