"""Random tabletop scenes: objects, rendered pictures with exact labels, and expressions."""
