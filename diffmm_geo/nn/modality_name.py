def module_name(modality: str) -> str:
    r"""The key of a modality in a :class:`torch.nn.ModuleDict`, which admits
    neither dots nor its own method names.
    """
    escaped = modality.replace('%', '%25').replace('.', '%2E')
    return f'modality_{escaped}'
