"""What runs on the host after the install; imports `custody` and never `bundler`."""
