"""The cheapest deployment that meets an SLO: what there is to choose from, bounds, simulation of the rest, verification, the answer."""
