import os.path as osp

from ._official_dataset import OfficialDataset


class AmazonBaby(OfficialDataset):
    r"""The Amazon-Baby dataset of products from the `"DiffMM: Multi-Modal
    Diffusion Model for Recommendation" <https://arxiv.org/abs/2406.11781>`_
    paper, as its authors publish it at
    `HKUDS/DiffMM <https://github.com/HKUDS/DiffMM>`_.
    Users interact with products, which have visual and textual features.

    The downloaded interactions are compared to their published SHA-256.
    None is known for the features: they are checked to be arrays of finite
    numbers with one row for each item.
    Files that are already in :obj:`root/raw` are used as they are.
    Only the features of the given :obj:`modalities` need to be there.

    Args:
        root (str): Root directory where the dataset should be saved.
        modalities (list[str], optional): The modalities to load, out of
            :obj:`"image"` and :obj:`"text"`.
            An empty list loads the interactions only.
            (default: :obj:`None`, which loads all)
        transform (callable, optional): A function/transform that takes in a
            :class:`~torch_geometric.data.HeteroData` and returns a transformed
            version, applied before every access. (default: :obj:`None`)
        pre_transform (callable, optional): The same, applied before the data
            is saved to disk. (default: :obj:`None`)
        force_reload (bool, optional): Whether to re-process the dataset.
            (default: :obj:`False`)

    **STATS:**

    .. list-table::
        :widths: 15 15 20 20 20 20
        :header-rows: 1

        * - #users
          - #items
          - #train
          - #val
          - #test
          - #channels
        * - 19,445
          - 7,050
          - 118,551
          - 21,682
          - 20,559
          - image 4,096, text 1,024
    """

    url = f'{OfficialDataset.repository}/baby'
    known_modalities = ('image', 'text')
    checksums = {
        'trnMat.pkl': (
            '4f89877511ce79f65e3e9376128f5c85fe4edf8d293706b94647f4b354a79d77'
        ),
        'valMat.pkl': (
            '71d426a111aec233f7442c478a8d21e182b87c9c2d5efe2ef1558fe0b1e929d2'
        ),
        'tstMat.pkl': (
            '98b2f7faf5c275e55ab63087cb52056f102d47b0a2db7b43a34836d737360b35'
        ),
    }
    archives = {'image_feat.npy': 'image_feat.npy.zip'}


class AmazonSports(OfficialDataset):
    r"""The Amazon-Sports dataset of products from the `"DiffMM: Multi-Modal
    Diffusion Model for Recommendation" <https://arxiv.org/abs/2406.11781>`_
    paper.
    Users interact with products, which have visual and textual features.

    Its authors publish it as an `archive on Google Drive
    <https://drive.google.com/file/d/1PR_IK5-xMwSso2JPHZ93k3eMQ0_s9JDx/view>`_,
    which needs to be downloaded by hand: put its files :obj:`trnMat.pkl`,
    :obj:`valMat.pkl`, :obj:`tstMat.pkl`, :obj:`image_feat.npy` and
    :obj:`text_feat.npy` in :obj:`root/raw`.
    Only the features of the given :obj:`modalities` need to be there.

    Args:
        root (str): Root directory where the dataset should be saved.
        modalities (list[str], optional): The modalities to load, out of
            :obj:`"image"` and :obj:`"text"`.
            An empty list loads the interactions only.
            (default: :obj:`None`, which loads all)
        transform (callable, optional): A function/transform that takes in a
            :class:`~torch_geometric.data.HeteroData` and returns a transformed
            version, applied before every access. (default: :obj:`None`)
        pre_transform (callable, optional): The same, applied before the data
            is saved to disk. (default: :obj:`None`)
        force_reload (bool, optional): Whether to re-process the dataset.
            (default: :obj:`False`)

    **STATS** (as the paper reports them; #interactions are all of them):

    .. list-table::
        :widths: 20 20 30 30
        :header-rows: 1

        * - #users
          - #items
          - #interactions
          - #channels
        * - 35,598
          - 18,357
          - 256,308
          - image 4,096, text 1,024
    """

    archive_url = (
        'https://drive.google.com/file/d/1PR_IK5-xMwSso2JPHZ93k3eMQ0_s9JDx/view'
    )
    known_modalities = ('image', 'text')

    def download(self) -> None:
        r"""Raises, since the archive needs to be downloaded by hand."""
        missing = [
            osp.basename(path)
            for path in self.raw_paths
            if not osp.exists(path)
        ]
        raise FileNotFoundError(
            f"Expected {missing} in '{self.raw_dir}', got no such files. "
            f"Download the archive by hand from '{self.archive_url}' and put "
            f'its files there.'
        )
