"""A small shop and its background jobs: the application that queuekit's main job is shown on."""
