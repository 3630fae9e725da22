"""Allocations: methods that decide the widths of all tensors together. One file each; the methods that have them are beside this folder."""
