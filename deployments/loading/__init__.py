"""Reading points from files for a bulk load: which columns, which rows, and what to do with bad ones."""
