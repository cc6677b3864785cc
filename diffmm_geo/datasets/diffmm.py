from ._official_dataset import OfficialDataset


class DiffMMDataset(OfficialDataset):
    r"""A dataset in the format of the `official code
    <https://github.com/HKUDS/DiffMM>`_ of the `"DiffMM: Multi-Modal Diffusion
    Model for Recommendation" <https://arxiv.org/abs/2406.11781>`_ paper.

    Files in :obj:`root/raw`:

    * :obj:`trnMat.pkl`, :obj:`valMat.pkl` and :obj:`tstMat.pkl`: pickled SciPy
      matrices (COO, CSR or CSC) of users and items, of equal shape. Each
      non-zero is an interaction. Nothing in the files is executed.
    * :obj:`{modality}_feat.npy`, *e.g.*, :obj:`image_feat.npy`: a row of
      features for each item.

    Args:
        root (str): The root directory of the dataset.
        modalities (list[str], optional): The modalities to load.
            (default: :obj:`None`, all in :obj:`root/raw`)
        transform, pre_transform, force_reload (optional): As in
            :class:`~diffmm_geo.datasets.MovieLens100K`.
    """

    format = 'the authors of DiffMM (https://github.com/HKUDS/DiffMM)'
