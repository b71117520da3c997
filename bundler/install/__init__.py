"""On site: check the host, bring the release in, let Ansible turn the host into an appliance."""
