"""With what: settings, object storage, and the deployment files."""
