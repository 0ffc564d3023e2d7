"""What jobs leave: archived by the provider at their end, fetched by who asked for the job, kept and shown there."""
