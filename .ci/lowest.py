"""Prints pip constraints that hold every dependency of setup.cfg at the lowest release line it allows."""

import configparser
import re

config = configparser.ConfigParser()
config.read("setup.cfg")
for line in config["options"]["install_requires"].split("\n"):
    if bound := re.fullmatch(r"([\w.-]+)(?:\[.*])? *>= *([\d.]+)(.*)", line.strip()):
        name, version, marker = bound.groups()
        print(f"{name}=={version}.*{marker}")
