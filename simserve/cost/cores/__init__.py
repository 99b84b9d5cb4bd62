"""Attention and linear operators at the level of cores: tiles dealt to AI cores or SMs, and rows padded to whole tiles (XY-Serve,
arXiv 2412.18106). Options of the cost model, for any device."""
