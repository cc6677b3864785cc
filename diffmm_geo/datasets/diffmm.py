import os.path as osp
from collections.abc import Sequence

from ._modalities import find_modalities
from ._official_dataset import MATRICES, OfficialDataset
from ._user_item_dataset import DataTransform


class DiffMMDataset(OfficialDataset):
    r"""Any dataset in the format of the `authors of DiffMM
    <https://github.com/HKUDS/DiffMM>`_ from the `"DiffMM: Multi-Modal
    Diffusion Model for Recommendation" <https://arxiv.org/abs/2406.11781>`_
    paper. :func:`~diffmm_geo.datasets.write_official` writes it.

    Expects in :obj:`root/raw`:

    * :obj:`trnMat.pkl`, :obj:`valMat.pkl` and :obj:`tstMat.pkl`: pickled
      SciPy matrices of users and items (COO, CSR or CSC), all of the same
      shape. Every non-zero is an interaction. Nothing in the files is
      executed.
    * :obj:`{modality}_feat.npy` for each modality, *e.g.*,
      :obj:`image_feat.npy` and :obj:`text_feat.npy`: one row of features for
      each item.

    Args:
        root (str): Root directory where the dataset should be saved.
        modalities (list[str], optional): The modalities to load.
            If set to :obj:`None`, will load all that are in
            :obj:`root/raw`.
            An empty list loads the interactions only.
            (default: :obj:`None`)
        transform (callable, optional): A function/transform that takes in a
            :class:`~torch_geometric.data.HeteroData` and returns a transformed
            version, applied before every access. (default: :obj:`None`)
        pre_transform (callable, optional): The same, applied before the data
            is saved to disk. (default: :obj:`None`)
        force_reload (bool, optional): Whether to re-process the dataset.
            (default: :obj:`False`)
    """

    remedy = ''

    def __init__(
        self,
        root: str,
        modalities: Sequence[str] | None = None,
        transform: DataTransform | None = None,
        pre_transform: DataTransform | None = None,
        force_reload: bool = False,
    ) -> None:
        raw_dir = osp.join(osp.expanduser(root), 'raw')
        missing = [
            name for name in MATRICES if not osp.isfile(osp.join(raw_dir, name))
        ]
        if missing:
            raise FileNotFoundError(
                f"Expected the interactions {missing} in '{raw_dir}', got no "
                f'such files. Put a dataset in the format of the authors of '
                f'DiffMM (https://github.com/HKUDS/DiffMM) there.'
            )
        self.known_modalities = find_modalities(raw_dir)
        super().__init__(
            root, modalities, transform, pre_transform, force_reload
        )
