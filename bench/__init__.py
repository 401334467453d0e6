"""softmax-bench: what the backward pass of softmax costs, done naively and done well."""
