"""Files of models and of trainings: configuration, weights, states, each whole or not at all."""
