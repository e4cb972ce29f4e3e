#!/usr/bin/env python3
"""Trains a motion tokenizer on a folder of tracks: the command ``train``."""

from amplify_motion_tokenizer.commands import cli

if __name__ == "__main__":
    cli.run("train")
