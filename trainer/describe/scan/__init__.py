"""Goes through all data of an experiment: counts, what is wrong with which example, duplicates."""
