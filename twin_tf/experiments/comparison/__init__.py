"""Every system of the papers on the same records, with equal budgets: what `twin-tf compare` runs and reports."""
