#!/usr/bin/env python3
"""Writes the motion codes of every clip of a folder: the command ``infer``."""

from amplify_motion_tokenizer.commands import cli

if __name__ == "__main__":
    cli.run("infer")
