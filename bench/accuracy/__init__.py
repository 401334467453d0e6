"""How exact loss and gradient are: every implementation against high precision, from small logits to large."""
