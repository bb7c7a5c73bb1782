"""How many users, when."""

from loadtests.shapes import SHAPES, stage_at


def users(shape, at_s, most=1_000, run_time_s=100):
    stage = stage_at(SHAPES[shape](most, 10, run_time_s), at_s)
    return stage and stage.users


def test_steps():
    assert [users("steps", at) for at in (0, 15, 99)] == [100, 200, 1_000]


def test_a_spike():
    assert [users("spike", at) for at in (0, 50, 80)] == [100, 1_000, 100]


def test_a_soak():
    assert [users("soak", at) for at in (0, 99)] == [500, 500]


def test_each_ends():
    for shape in SHAPES:
        assert users(shape, 100) is None
        assert users(shape, 0, most=1) == 1
