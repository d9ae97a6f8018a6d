"""Files of any format as batches of raw rows."""
