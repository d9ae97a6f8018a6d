"""Bodies of requests and answers, decoded, encoded and documented from one definition."""
