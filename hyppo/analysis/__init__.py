"""Analysis of a study: its parameters and its predictions."""
