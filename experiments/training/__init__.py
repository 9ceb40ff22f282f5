"""What runs inside a trial; a change to these files runs the trials again."""
