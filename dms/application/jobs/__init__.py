"""The service provider's side: requests, quotes, payments, and all that follows until a job is over."""
