"""Plain NumPy of the papers' equations, one loop per index, nothing shared with the package."""
