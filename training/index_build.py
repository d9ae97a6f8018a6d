"""Index build: the search index over item factors."""

import faiss

from recsys.recommender.factors import Matrix


def build_search_index(item_factors: Matrix) -> faiss.Index:
    """Exact inner-product search over (n, d)."""
    index = faiss.IndexFlatIP(item_factors.shape[1])
    index.add(item_factors)
    return index
