"""How good the regression check is: trials on identical code and on known slow-downs, beside the usual gates."""
