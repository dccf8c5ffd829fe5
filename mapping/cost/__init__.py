"""The cost model: cycles of a layer's shape on a unit, without compiling or simulating it."""
