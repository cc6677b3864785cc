import pytest


def wrong_values(**values):
    r"""Runs a test with the `name` of each argument and each wrong `value`."""
    return pytest.mark.parametrize(
        ('name', 'value'), [(n, v) for n in values for v in values[n]]
    )
