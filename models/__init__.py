"""The verifier's specification, the hypernetwork that generates its weights, and their training."""
