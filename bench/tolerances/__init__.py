"""How many wrong gradients the usual tests let through: every known mistake under the tolerances people use."""
