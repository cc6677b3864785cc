r"""An ensemble of recommenders that err differently. It is not DiffMM, but
consists of parts of the library. A scorer is any function of users that returns
their scores of all items, as :func:`diffmm_geo.evaluation.evaluate` takes it.
"""
