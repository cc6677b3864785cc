import os.path as osp
import warnings
from collections.abc import Mapping

from torch_geometric.data import HeteroData

from diffmm_geo.utils.checksum import sha256sum

from ._download import download, extract_member
from ._modality_files import read_features
from ._unpickle import read_pattern
from ._user_item_data import SPLITS, user_item_data
from ._user_item_dataset import UserItemDataset

REPOSITORY = (
    'https://github.com/HKUDS/DiffMM/raw/'
    'fae20e642aeeaad4284be6f7fb3432ebb551da8e/Datasets'
)
SPORTS = (
    'https://drive.google.com/file/d/1PR_IK5-xMwSso2JPHZ93k3eMQ0_s9JDx/view'
)


class DiffMMDataset(UserItemDataset):
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
        modalities (list[str], optional): The modalities to load. Features of
            others are not needed. (default: :obj:`None`, all)
        transform, pre_transform, force_reload (optional): As in
            :class:`~diffmm_geo.datasets.MovieLens100K`.
    """

    url = ''
    interaction_files = ('trnMat.pkl', 'valMat.pkl', 'tstMat.pkl')
    # By file name: the SHA-256, if published, and the zip archive, if any.
    checksums: Mapping[str, str] = {}
    archives: Mapping[str, str] = {}
    by_hand = (
        'Put a dataset in the format of the authors of DiffMM '
        '(https://github.com/HKUDS/DiffMM) there.'
    )

    def download(self) -> None:
        if not self.url:
            self.check_files(self.raw_file_names)
        for name, path in zip(self.raw_file_names, self.raw_paths):
            if osp.exists(path):
                continue
            if name not in self.archives:
                download(f'{self.url}/{name}', path, self.checksums.get(name))
                continue
            archive = osp.join(self.raw_dir, self.archives[name])
            if not osp.exists(archive):
                download(f'{self.url}/{self.archives[name]}', archive)
            extract_member(archive, name, path)

    def read_raw(self) -> HeteroData:
        patterns = [read_pattern(path) for path in self.raw_paths[:3]]
        size = patterns[0][0]
        for path, (shape, _) in zip(self.raw_paths, patterns):
            if shape != size:
                raise ValueError(
                    f"'{path}': expected a matrix of shape {size} as in "
                    f"'{self.raw_paths[0]}', got {shape}"
                )
        differing = [
            name
            for name, path in zip(self.raw_file_names, self.raw_paths)
            if self.checksums.get(name) not in (None, sha256sum(path))
        ]
        if differing:
            warnings.warn(
                f'{type(self).__name__} is not the published dataset: the '
                f'SHA-256 of {differing} differs',
                stacklevel=2,
            )
        features = read_features(self.raw_dir, self.modalities, size[1])
        edges = dict(zip(SPLITS, (edges for _, edges in patterns)))
        return user_item_data(self.raw_dir, *size, features, edges)


class TikTok(DiffMMDataset):
    r"""The TikTok dataset of short videos from the `"DiffMM: Multi-Modal
    Diffusion Model for Recommendation" <https://arxiv.org/abs/2406.11781>`_
    paper, published at `HKUDS/DiffMM <https://github.com/HKUDS/DiffMM>`_:
    interactions of users and videos with visual, textual and acoustic
    features.

    Downloads are verified by their published SHA-256. Files without one, here
    :obj:`text_feat.npy`, need to have the expected shape and finite values.
    Existing files in :obj:`root/raw` are kept.

    The arguments are those of :class:`~diffmm_geo.datasets.DiffMMDataset`, the
    modalities :obj:`"image"`, :obj:`"text"` and :obj:`"audio"`.

    **STATS:**

    .. csv-table::
        :header: #users; #items; #train; #val; #test; #channels
        :delim: ;

        9,308; 6,710; 59,541; 3,051; 6,130; image 128, text 768, audio 128
    """

    url = f'{REPOSITORY}/tiktok'
    known_modalities = ('image', 'text', 'audio')
    checksums = {
        'trnMat.pkl': (
            '1efbc49d1a7ce5268f01e3e0c558df1f8f8644628c76aa6536be4ec61d256916'
        ),
        'valMat.pkl': (
            'b6971ed696613d565613dd74b101c45b2aa002b66e8ba99cad03abf04db2397b'
        ),
        'tstMat.pkl': (
            'e83a93787d88728572dbdd5b131bae01a90e17c340820e7b8f0a7c27e69d6f9e'
        ),
        'image_feat.npy': (
            'f6c1ec1726ed2aa80315411199ab2143bee6333821bf58c5f00bd3f5b462efc2'
        ),
        'audio_feat.npy': (
            'd45a44a9d462f578802de914c2feea5cfd45742b2922775a085b9bdc1beba26f'
        ),
    }


class AmazonBaby(DiffMMDataset):
    r"""The Amazon-Baby dataset of products, from where
    :class:`~diffmm_geo.datasets.TikTok` is from. The SHA-256 of interactions
    is published.

    The arguments are those of :class:`~diffmm_geo.datasets.DiffMMDataset`, the
    modalities :obj:`"image"` and :obj:`"text"`.

    **STATS:**

    .. csv-table::
        :header: #users; #items; #train; #val; #test; #channels
        :delim: ;

        19,445; 7,050; 118,551; 21,682; 20,559; image 4,096, text 1,024
    """

    url = f'{REPOSITORY}/baby'
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


class AmazonSports(DiffMMDataset):
    r"""The Amazon-Sports dataset of products from the same paper. Download the
    authors' `archive on Google Drive
    <https://drive.google.com/file/d/1PR_IK5-xMwSso2JPHZ93k3eMQ0_s9JDx/view>`_
    by hand, and put its files :obj:`trnMat.pkl`, :obj:`valMat.pkl`,
    :obj:`tstMat.pkl`, :obj:`image_feat.npy` and :obj:`text_feat.npy` in
    :obj:`root/raw`.

    The arguments are those of :class:`~diffmm_geo.datasets.AmazonBaby`.

    **STATS** (from the paper):

    .. csv-table::
        :header: #users; #items; #interactions; #channels
        :delim: ;

        35,598; 18,357; 256,308; image 4,096, text 1,024
    """

    known_modalities = ('image', 'text')
    by_hand = (
        f"Download the archive by hand from '{SPORTS}' and put its files there."
    )
