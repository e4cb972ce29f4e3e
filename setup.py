"""The packages to install; all else is in pyproject.toml, which cannot say that configs/ is one of them."""

from setuptools import find_packages, setup

PACKAGE, CONFIGS = "amplify_motion_tokenizer", "amplify_motion_tokenizer.configs"

setup(
    packages=[*find_packages(include=[PACKAGE, f"{PACKAGE}.*"]), CONFIGS],
    # At the top for people; installed, in the package, where --config NAME finds it.
    package_dir={CONFIGS: "configs"},
    package_data={
        PACKAGE: ["py.typed", "pretrained/*", "report/page.*"],
        CONFIGS: ["*.yaml", "accelerate/*.yaml"],
    },
)
