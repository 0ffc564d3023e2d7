"""The compute provider's side: which jobs are taken, how their containers run and end, what is left of them."""
