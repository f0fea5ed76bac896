"""The command line: one file a command, named like its function, whose signature is its flags.

A command module imports at its top only what is light, and the rest in its function, so that help is fast.
"""

COMMANDS = {
    "clean": "find what does not belong in a set of images",
    "train": "train a model on images of which some do not belong",
    "score": "score new images with a model",
    "search": "find the images that are most like some",
    "sample": "make new images of the inliers only",
    "evaluate": "measure a model against images whose kind is known",
    "export": "write what clean found for FiftyOne, Label Studio, cleanlab or Croissant",
    "cluster": "sort images into groups that look alike",
    "contaminate": "make a dirty folder on purpose",
}
"""Each command and what it does, without importing it."""
