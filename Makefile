# make demo and make test do all the set-up: they make .venv and install into it when needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo
TOKENIZER := $(BIN)/python -m amplify_motion_tokenizer
SO_FAR = $$(($$(date +%s) - $$(cat $(DEMO)/.began)))
CLIPS := --frames 40 --size 240x320

.PHONY: demo pretrain test fuzz lint format docs pictures clean

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
	@mkdir -p $(DEMO); date +%s >$(DEMO)/.began
	$(TOKENIZER) scenes $(CLIPS) --clips 4 --output $(DEMO)/first --truth >/dev/null
	$(BIN)/python inference_short_clip.py --quiet --input $(DEMO)/first --output $(DEMO)/codes
	@echo "=> motion codes $(SO_FAR) s after set-up, by the tokenizer that comes with the package:"
	@head -c 160 $(DEMO)/codes/codes.jsonl; echo " ..."
	$(TOKENIZER) decode --quiet --codes $(DEMO)/codes --input $(DEMO)/first --tracks $(DEMO)/first/truth --output $(DEMO)/decoded
	@echo "=> $(DEMO)/decoded/*.mp4 after $(SO_FAR) s: true tracks, beside them what the codes kept of these, and the codes below"
	$(TOKENIZER) scenes $(CLIPS) --clips 60 --output $(DEMO)/videos >/dev/null
	$(BIN)/python preprocess_videos.py --config codec --tracking.window_stride 2 --input $(DEMO)/videos --output $(DEMO)/tracks
	$(BIN)/python train.py --config finetune --init default --training.epochs 10 --input $(DEMO)/tracks --output $(DEMO)/run --resume auto
	$(TOKENIZER) scenes $(CLIPS) --clips 21 --seed 1 --output $(DEMO)/test --truth --stride 4 >/dev/null
	$(TOKENIZER) evaluate tokenizer --tracks $(DEMO)/test/truth --checkpoint default --checkpoint $(DEMO)/run/best.pth >$(DEMO)/evaluation.txt
	@echo "=> before (default) and after (best.pth) training on these clips, on 21 clips that neither saw:"
	@grep "least first" $(DEMO)/evaluation.txt
	@echo "Made in $(DEMO)/ in $(SO_FAR) s: first/, videos/ and test/ (rendered clips), codes/ (one JSON per clip of first/), decoded/"
	@echo "(their tracks, drawn), tracks/ (one HDF5 per clip of videos/), run/ (best.pth, TensorBoard), evaluation.txt (all figures)."
	@echo "Next, on your own videos:"
	@echo "  $(BIN)/python inference_short_clip.py --input YOUR_VIDEOS --output my/codes"
	@echo "  $(TOKENIZER) decode --codes my/codes --input YOUR_VIDEOS --output my/decoded"

PRETRAINED := amplify_motion_tokenizer/pretrained

# The shipped tokenizers, from nothing; codes of another file are other codes.
pretrain: $(VENV)/.installed
	$(BIN)/python -m amplify_motion_tokenizer pretrain --config configs/transform.yaml --output $(PRETRAINED)/transform.safetensors
	$(BIN)/python -m amplify_motion_tokenizer pretrain --config configs/codec.yaml --output $(PRETRAINED)/codec.safetensors

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2 --dist loadfile

# Hostile files of every kind, for some minutes; make fuzz INPUTS=100000 SEED=7 for more, and for the same again.
INPUTS ?= 10000
fuzz: $(VENV)/.installed-dev
	$(BIN)/python -m tests.fuzz --inputs $(INPUTS) $(if $(SEED),--seed $(SEED)) --keep fuzz-faults

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The pages of docs/ as a site, in site/. Its builder is not a need of the package, nor of its tests.
$(VENV)/.installed-docs: $(VENV)/.installed requirements-docs.txt
	$(BIN)/python -m pip install -q -r requirements-docs.txt
	touch $@

docs: $(VENV)/.installed-docs
	$(BIN)/zensical build --strict --clean
	@echo "=> site/index.html"

# The pictures of README.md and docs/, from rendered scenes.
pictures: $(VENV)/.installed
	$(BIN)/python -m benchmarks.pictures

clean:
	rm -rf $(VENV) $(DEMO) site .cache
