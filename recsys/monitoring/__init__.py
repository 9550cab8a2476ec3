"""Whether what was published is still what is served: the copies of an answer, compared."""
