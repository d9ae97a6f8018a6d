"""The recommender: pure and synchronous, no clients and no frameworks."""

from recsys.recommender.artefact import IndexContents, file_entries, write_artefact
from recsys.recommender.catalogue import Catalogue
from recsys.recommender.factors import ConfidenceParameters
from recsys.recommender.index import Index
from recsys.recommender.prepared import has_masks
from recsys.recommender.recommend import Trace, recommend, recommend_many, still_allowed
from recsys.recommender.trends import Trends

__all__ = [
    "Catalogue",
    "ConfidenceParameters",
    "Index",
    "IndexContents",
    "Trace",
    "Trends",
    "file_entries",
    "has_masks",
    "recommend",
    "recommend_many",
    "still_allowed",
    "write_artefact",
]
