"""The studies: a file each, which the command line finds by itself."""
