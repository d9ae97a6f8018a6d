"""stub"""

from recsys.recommender.candidates import Ranked
from recsys.recommender.catalogue import Catalogue


class Trends:
    def ranked(self, catalogue: Catalogue, hours: float) -> Ranked:
        index = catalogue.index
        return Ranked(index.trending_rows, index.trending[index.trending_rows])
