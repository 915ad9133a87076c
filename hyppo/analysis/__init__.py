"""What a study says about its parameters and its predictions."""
