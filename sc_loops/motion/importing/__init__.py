"""Motion capture of others (BVH, ASF/AMC, exponential maps) into the folder that ``humanml3d`` reads."""
