"""Archives of jobs' workspaces: made and kept by the provider, fetched by who asked for the job."""
