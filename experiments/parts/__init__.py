"""Pieces of the studies that one file would be too long for, a file or a folder for each study."""
