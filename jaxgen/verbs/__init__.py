"""What a trained model can do: a folder for each verb."""
