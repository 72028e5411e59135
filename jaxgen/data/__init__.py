"""Pictures and texts on the host: NumPy, no TensorFlow. A folder for each kind of example."""
