"""The appliance's commands; `bundler.cli` knows them by name and loads each when it is called."""
