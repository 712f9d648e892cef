"""The families of text-to-image models: what their members share. A script says only what is special to its model."""
