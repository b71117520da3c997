"""Many hosts from a site's laptop: it carries and watches; every host verifies and installs by itself."""
