"""The recommender: pure and synchronous, no clients and no frameworks."""

from recsys.recommender.artefact import IndexContents, file_entries, write_artefact
from recsys.recommender.catalogue import Catalogue
from recsys.recommender.factors import ConfidenceParameters
from recsys.recommender.index import Index
from recsys.recommender.recommend import recommend, similar

__all__ = [
    "Catalogue",
    "ConfidenceParameters",
    "Index",
    "IndexContents",
    "file_entries",
    "recommend",
    "similar",
    "write_artefact",
]
