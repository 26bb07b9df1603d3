"""What the library costs, each time as the ratio of two ways in one run. See README.md."""
