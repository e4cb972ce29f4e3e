"""Trackers whose code is a folder that the user cloned, with weights from a file or its published address."""

from __future__ import annotations

import functools
import hashlib
import importlib
import logging
import pickle
import sys
import textwrap
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from types import ModuleType
from typing import ClassVar
from zipfile import BadZipFile

import torch
from torch import nn

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.config.tracks import CheckoutSettings
from amplify_motion_tokenizer.devices import resolve_device
from amplify_motion_tokenizer.errors import TrackerError
from amplify_motion_tokenizer.files import unpickling_gist
from amplify_motion_tokenizer.trackers.batches import BatchedTracker, Floats, Predict, ResizedFrames
from amplify_motion_tokenizer.trackers.windows import FrameWindow

log = logging.getLogger(__name__)

LOAD_ERRORS = (OSError, HTTPException, BadZipFile, RuntimeError, pickle.UnpicklingError, EOFError)
"""What torch.hub and torch.load raise for a missing network, a failed or a damaged download."""


class CheckoutTracker(BatchedTracker):
    """A tracker whose class comes from the user's clone of its repository.

    Attributes:
        weights_urls: the tracker's names, with the address of the weights of each.
        repository: what to clone.
        module: the module of the clone that has the tracker's class.
        packages: the names that the clone's own modules begin with.
        needs: packages that the module imports, as pip is told them.
        weights_sha256: hash of the weights in use.
    """

    weights_urls: ClassVar[Mapping[str, str]]
    repository: ClassVar[str]
    module: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]
    needs: ClassVar[str]

    def __init__(self, name: str, settings: CheckoutSettings, device: str = "auto") -> None:
        """Loads code and weights.

        Raises:
            TrackerError: code or weights are not there, or do not fit; the message says which keys to set.
            ConfigError: there is no such device.
        """
        super().__init__(name, settings.window_batch_size)
        self._device = device_without_mps(device, f"{self.title} runs on the CPU: it was never tried on MPS")
        self._checkout = settings.checkout
        try:
            model = self.build(self.imported(self.module))
        except (AttributeError, TypeError) as error:
            raise TrackerError(
                f"tracking.{self.section}.checkout = {settings.checkout!r} does not fit ({self.module}: "
                f"{one_line(error)}); set it to a clone of another version of {self.repository}"
            ) from error
        self._load(model, self._weights_file(settings.weights))
        self._model = model.eval().requires_grad_(False).to(self._device)
        self.weights_sha256 = weights_hash(model)

    @classmethod
    def from_config(cls, config: Config) -> CheckoutTracker:
        """The tracker ``tracking.tracker`` as its section and ``tracking.device`` say.

        Raises:
            TrackerError: code or weights are not there, or do not fit.
            ConfigError: there is no such device.
        """
        tracking = config.tracking
        return cls(tracking.tracker, getattr(tracking, cls.section), tracking.device)

    @abstractmethod
    def build(self, code: ModuleType) -> nn.Module:
        """The model of the checkout's module ``code``, without its weights."""

    @abstractmethod
    def predict(
        self, frames: ResizedFrames, batch: list[FrameWindow], queries_xy_px: Floats
    ) -> tuple[Floats, Floats]:
        """Tracks a batch of B windows of one clip.

        Args:
            frames: the clip's frames in the model's size.
            batch: windows of T frames each, all of one size.
            queries_xy_px: (N, 2) float32, (x, y) pixels of the windows' first frames.

        Returns:
            Tracks (B, T, N, 2) float32, (x, y) pixels of the frames; visibility (B, T, N) float32, 0 to 1.
        """

    def predictor(self) -> Predict:
        """How the batches of one clip are tracked."""
        return functools.partial(self.predict, ResizedFrames())

    def read_weights(self, model: nn.Module, path: Path) -> None:
        """Fills the model from a file of its weights: a state dict, by itself or as its value "model"."""
        state = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(state.get("model", state))

    def imported(self, module: str) -> ModuleType:
        """A module of the user's clone.

        Raises:
            TrackerError: there is no clone, it does not have the module, or what that needs is missing.
        """
        checkout = self._checkout
        key = f"tracking.{self.section}.checkout"
        clone = f"set {key} to a folder made by 'git clone {self.repository}'"
        if checkout is None:
            raise TrackerError(f"{self.title}'s code is not part of this package: {clone}")
        folder = Path(checkout).expanduser()
        file = f"{module.replace('.', '/')}.py"
        if not (folder / file).is_file():
            raise TrackerError(f"{key} = {checkout!r} is not a clone of it (it has no {file}); {clone}")
        try:
            with _first_on_path(folder, self.packages):
                return importlib.import_module(module)
        except ImportError as error:
            raise TrackerError(
                f"{self.title}'s code in {checkout} cannot be imported: {one_line(error)}. What it needs: "
                f"pip install {self.needs}"
            ) from error

    def _weights_file(self, weights: str | None) -> Path:
        """The file of weights that the settings name, or the published one, downloaded once."""
        key, url = f"tracking.{self.section}.weights", self.weights_urls[self.name]
        if weights is not None:
            path = Path(weights).expanduser()
            if not path.is_file():
                raise TrackerError(
                    f"{key} = {weights!r} is not a file; set it to a file downloaded from {url}, or leave it "
                    "out to have that fetched"
                )
            return path
        path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
        if not path.is_file():
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                torch.hub.download_url_to_file(url, str(path), progress=False)
            except LOAD_ERRORS as error:
                raise TrackerError(
                    f"no weights of {self.title} from {url}: {one_line(error)}. Without network, set "
                    f"{key} to a file downloaded from there"
                ) from error
        return path

    def _load(self, model: nn.Module, path: Path) -> None:
        try:
            self.read_weights(model, path)
        except (*LOAD_ERRORS, AttributeError, TypeError, ValueError, LookupError) as error:
            raise TrackerError(
                f"{path} holds no weights of {self.name}: {one_line(error)}. They are at "
                f"{self.weights_urls[self.name]} (tracking.{self.section}.weights)"
            ) from error


@contextmanager
def _first_on_path(folder: Path, packages: tuple[str, ...]) -> Iterator[None]:
    """Imports of ``packages`` find those of ``folder``, within the block only.

    Clones call their packages ``utils`` and the like. What was imported under those names before is there
    again afterwards, and what the clone brought is known to those alone that hold it.
    """

    def taken() -> dict[str, ModuleType]:
        names = [name for name in sys.modules if name.split(".")[0] in packages]
        return {name: sys.modules.pop(name) for name in names}

    before = taken()
    sys.path.insert(0, str(folder))
    try:
        importlib.invalidate_caches()
        yield
    finally:
        sys.path.remove(str(folder))
        taken()
        sys.modules.update(before)


def device_without_mps(name: str, why: str) -> torch.device:
    """The device that ``tracking.device`` names, but the CPU instead of MPS, with ``why`` as a warning.

    Raises:
        ConfigError: there is no such device.
    """
    device = resolve_device(name, "tracking.device")
    if device.type == "mps":
        log.warning(why)
        return torch.device("cpu")
    return device


def weights_hash(model: nn.Module) -> str:
    """SHA-256 of a model's state dict, the same wherever the weights came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def one_line(error: BaseException) -> str:
    """What an error of loading says, in one short line."""
    if isinstance(error, pickle.UnpicklingError):
        return unpickling_gist(error)
    return textwrap.shorten(f"{type(error).__name__}: {error}", 300)
