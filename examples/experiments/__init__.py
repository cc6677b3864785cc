r"""The paper's experiments, each one command on any data set:

    python -m examples.experiments.ablation --dataset tiktok --root ROOT

Trained models are kept in one store (`run_store.py`), so that experiments
share them, and that a command that was stopped goes on where it was.
"""
