r"""The paper's experiments, each one command on any data set:

    python -m examples.experiments.ablation --dataset tiktok --root ROOT

One store (`run_store.py`) keeps the trained models: experiments share them, and
an interrupted command resumes.
"""
