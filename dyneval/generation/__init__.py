"""Step 2, GenDB: text-to-image models behind one interface, and the runner that `image_gen_scripts/` calls."""
