"""What administrators install, really run: units under a booted systemd, packages in real trees, images."""
