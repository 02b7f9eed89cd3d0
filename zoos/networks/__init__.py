"""Networks as data: layers, architectures, their torch modules, and where their tensors lie."""
