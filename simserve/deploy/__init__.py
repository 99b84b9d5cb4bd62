"""`simserve deploy`: an experiment, or the plan that a search found, as command lines of its serving engine and as Kubernetes manifests."""
