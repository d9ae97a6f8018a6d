"""HTTP: what every route shares, from the bounds of a request to the errors in an answer."""
