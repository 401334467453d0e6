"""How a target is called: the roles of its parameters, conventions to be tried, the call itself."""
