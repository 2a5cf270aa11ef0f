"""The command line `digitize`: one file a group of commands. Only these modules print."""
