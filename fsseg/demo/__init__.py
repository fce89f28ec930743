"""The phantom CTs of `fsseg demo`, and what its report shows."""
