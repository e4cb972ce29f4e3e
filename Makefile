# make demo and make test do all the set-up: they make .venv and install into it when needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo
QUICK := --config configs/quickstart.yaml

.PHONY: demo pretrain test lint format clean

$(VENV)/.installed: requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or later is needed")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -r requirements.txt
	$(BIN)/python -m pip install -q --no-deps -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt
	$(BIN)/python -m pip install -q -r requirements-dev.txt
	touch $@

demo: $(VENV)/.installed
	$(BIN)/python -m amplify_motion_tokenizer scenes --output $(DEMO)/videos --clips 60 --frames 40 --size 240x320 >/dev/null
	$(BIN)/python preprocess_videos.py $(QUICK) --input $(DEMO)/videos --output $(DEMO)/tracks
	$(BIN)/python train.py $(QUICK) --input $(DEMO)/tracks --output $(DEMO)/run --resume auto
	$(BIN)/python inference_short_clip.py --checkpoint $(DEMO)/run/best.pth --input $(DEMO)/videos --output $(DEMO)/codes
	@echo
	@echo "Made in $(DEMO)/: videos/ (rendered clips), tracks/ (one HDF5 per clip), run/ (best.pth, TensorBoard),"
	@echo "codes/ (one JSON per clip, all of them in codes.jsonl). The motion codes of the first clip:"
	@head -c 300 $(DEMO)/codes/codes.jsonl; echo " ..."
	@echo "Next, on your own videos:"
	@echo "  $(BIN)/python preprocess_videos.py $(QUICK) --input YOUR_VIDEOS --output my/tracks"
	@echo "  $(BIN)/accelerate launch train.py $(QUICK) --input my/tracks --output my/run"
	@echo "  $(BIN)/python inference_short_clip.py --checkpoint my/run/best.pth --input YOUR_VIDEOS --output my/codes"

PRETRAINED := amplify_motion_tokenizer/pretrained

# The shipped tokenizers, from nothing; codes of another file are other codes.
pretrain: $(VENV)/.installed
	$(BIN)/python -m amplify_motion_tokenizer pretrain --config configs/transform.yaml --output $(PRETRAINED)/transform.safetensors
	$(BIN)/python -m amplify_motion_tokenizer pretrain --config configs/codec.yaml --output $(PRETRAINED)/codec.safetensors

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(DEMO)
