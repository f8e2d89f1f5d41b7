# Parley without a GPU: the demo, and the gateway, page and worker of a larger installation (deploy/compose.yaml).
#
#   docker build -t parley:cpu .
#   docker run -p 8000:8000 -p 7860:7860 -v parley-state:/var/lib/parley parley:cpu parley demo --make-owner-key
#
# The first start creates an owner's key and prints it once: `docker logs` shows it. Dockerfile.gpu is for NVIDIA GPUs.
FROM python:3.11-slim-bookworm

# vLLM's CPU build is linked with libnuma. An engine on a CPU compiles nothing, so there is no compiler.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libnuma1 \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/parley

# The packages first: they change less often than the code, so a rebuild after a code change takes seconds. PyTorch's CPU
# build comes from pip's index if that has it, else from PyTorch's.
COPY requirements/cpu.txt requirements/cpu.txt
RUN python -m venv .venv \
    && torch="$(grep '^torch==' requirements/cpu.txt)" \
    && { .venv/bin/pip install --no-cache-dir --no-deps "$torch" \
        || .venv/bin/pip install --no-cache-dir --no-deps --extra-index-url https://download.pytorch.org/whl/cpu "$torch"; } \
    && .venv/bin/pip install --no-cache-dir --no-deps -r requirements/cpu.txt

COPY pyproject.toml README.md LICENSE parley.py ./
COPY migrations migrations
COPY models models
COPY serve serve
COPY train train
COPY evals evals
COPY ui ui
RUN .venv/bin/pip install --no-cache-dir --no-deps --no-build-isolation --config-settings editable_mode=compat -e .

# Not root: uid 10001 owns the state and the models, but no file of the program.
RUN useradd --system --uid 10001 --create-home --home-dir /home/parley parley \
    && mkdir -p /var/lib/parley /models \
    && chown parley:parley /var/lib/parley /models
USER parley

ENV PATH=/opt/parley/.venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PARLEY_HOME=/var/lib/parley \
    PARLEY_HOST=0.0.0.0 \
    PARLEY_PAGE_HOST=0.0.0.0 \
    PARLEY_DEVICE=cpu \
    HF_HOME=/models

# State: database, published weights, runs, logs. Models: downloads from a hub.
VOLUME ["/var/lib/parley", "/models"]
EXPOSE 8000 7860
STOPSIGNAL SIGTERM

HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=4)"]

CMD ["parley", "up", "--make-owner-key"]
