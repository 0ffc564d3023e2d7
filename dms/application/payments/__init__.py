"""What a payment is worth: the check of its funding, what it was used for, who gets what of it."""
