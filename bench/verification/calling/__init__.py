"""How a target is called: the roles of its parameters, the conventions to try, the call itself."""
