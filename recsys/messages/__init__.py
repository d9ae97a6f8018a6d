"""Messages on the interaction topic: their kinds, their formats, and what makes them valid."""
