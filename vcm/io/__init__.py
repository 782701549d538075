"""Pictures and whole files in and out. Imports nothing, so that the container takes files without numpy or Pillow."""
