"""What the tasks of several families share: a folder for each kind."""
