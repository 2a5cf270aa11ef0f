"""The commands of `digitize`, one file a group. Only these modules print."""
