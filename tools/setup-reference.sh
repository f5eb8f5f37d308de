#!/usr/bin/env bash
# The venv of the reference stack (.venv-reference, about 5 GB): Python torch and transformers, with
# which tests/interop compares. Only those tests and the scripts that make golden files need it.
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/common.sh

make_venv .venv-reference torch==2.11.0 transformers==5.23.0 tokenizers==0.23.3 jinja2==3.1.6 \
  h5py==3.16.0 numpy==2.4.6 safetensors==0.8.0 tensorboard==2.21.0 pytest==9.2.0 \
  pytest-xdist==3.8.0 peft==0.21.2 \
  rouge-score==0.1.2 nltk==3.10.4 sacrebleu==2.6.0 pyyaml==6.0.4 matplotlib==3.10.7 \
  pyarrow==26.0.1 zstandard==0.25.0 compressed-tensors==0.20.0 wandb==0.31.0
