"""The appliance's data volume: find the disk, judge it, format it once, open and close it."""
