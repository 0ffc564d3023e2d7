"""What jobs begin with: fetched by the compute provider, from the web or from who asked for the job."""
