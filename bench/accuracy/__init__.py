"""How exact the loss and its gradient are: every implementation against high precision, from small logits to large."""
