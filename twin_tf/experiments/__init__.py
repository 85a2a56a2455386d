"""Studies of several systems: the demo and the comparison."""
