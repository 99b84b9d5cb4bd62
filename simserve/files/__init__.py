"""Files that people give us, read in one guarded way: bounded in size, depth and length of numbers, mistakes named with their place."""
