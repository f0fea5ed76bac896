"""Search by product codes: vectors as a few bytes each, and the nearest of millions of them."""

from rvqvae.retrieval.index import ProductIndex

__all__ = ["ProductIndex"]
