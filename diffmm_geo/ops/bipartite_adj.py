from diffmm_geo.sparse.bipartite_adj import BipartiteAdj as BipartiteAdj
from diffmm_geo.sparse.bipartite_adj import to_coo as to_coo
