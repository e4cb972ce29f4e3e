#!/usr/bin/env python3
"""Tracks points in every clip of a folder: the command ``preprocess``."""

from amplify_motion_tokenizer.commands import cli

if __name__ == "__main__":
    cli.run("preprocess")
