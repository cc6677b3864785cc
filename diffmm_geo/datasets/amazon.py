import os.path as osp

from ._official_dataset import OfficialDataset


class AmazonBaby(OfficialDataset):
    r"""The Amazon-Baby dataset of products from the `"DiffMM: Multi-Modal
    Diffusion Model for Recommendation" <https://arxiv.org/abs/2406.11781>`_
    paper, published at `HKUDS/DiffMM <https://github.com/HKUDS/DiffMM>`_:
    interactions of users and products with visual and textual features.

    Downloads are verified: interactions need to match their published SHA-256,
    and features need to have the expected shape and finite values. Existing
    files in :obj:`root/raw` are kept. Only features of the given
    :obj:`modalities` are needed.

    Args:
        root (str): The root directory of the dataset.
        modalities (list[str], optional): The modalities to load, out of
            :obj:`"image"` and :obj:`"text"`. (default: :obj:`None`, all)
        transform, pre_transform, force_reload (optional): As in
            :class:`~diffmm_geo.datasets.MovieLens100K`.

    **STATS:**

    .. csv-table::
        :header: #users; #items; #train; #val; #test; #channels
        :delim: ;

        19,445; 7,050; 118,551; 21,682; 20,559; image 4,096, text 1,024
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
    paper: interactions of users and products with visual and textual features.

    Download the authors' `archive on Google Drive
    <https://drive.google.com/file/d/1PR_IK5-xMwSso2JPHZ93k3eMQ0_s9JDx/view>`_
    by hand, and put its files :obj:`trnMat.pkl`, :obj:`valMat.pkl`,
    :obj:`tstMat.pkl`, :obj:`image_feat.npy` and :obj:`text_feat.npy` in
    :obj:`root/raw`. Only features of the given :obj:`modalities` are needed.

    The arguments are those of :class:`AmazonBaby`.

    **STATS** (from the paper):

    .. csv-table::
        :header: #users; #items; #interactions; #channels
        :delim: ;

        35,598; 18,357; 256,308; image 4,096, text 1,024
    """

    archive_url = (
        'https://drive.google.com/file/d/1PR_IK5-xMwSso2JPHZ93k3eMQ0_s9JDx/view'
    )
    known_modalities = ('image', 'text')

    def download(self) -> None:
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
