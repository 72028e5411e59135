"""The one trainer: state, phases in one step, mesh, checkpoints, log."""
