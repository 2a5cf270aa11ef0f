# GPU image: Ray workers that train. PyTorch brings the CUDA libraries; the machine needs the NVIDIA driver and the
# container toolkit alone. Build from the repository's root:
#   docker build -f infra/docker/gpu.Dockerfile -t digitize:0.1.0-gpu .
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
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.12-slim-bookworm
# gcc and libc6-dev: Triton compiles its launchers on the first use of a kernel
RUN apt-get update \
    && apt-get install --no-install-recommends -y gcc libc6-dev libusb-1.0-0 libgl1 libgomp1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 digitize \
    && install -d -o digitize -g digitize /work /scratch
COPY constraints.txt /tmp/constraints.txt
COPY --from=build /wheels /wheels
RUN set -- /wheels/*.whl \
    && pip install --no-cache-dir -c /tmp/constraints.txt "asset-digitizer[cluster,postgres] @ file://$1" \
    && python -m infra.weights | xargs -r pip install --no-cache-dir --no-deps --ignore-requires-python \
    && rm -rf /wheels /tmp/constraints.txt
USER digitize
WORKDIR /work
ENV DIGITIZE_SCRATCH=/scratch \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    NVIDIA_VISIBLE_DEVICES=all \
    OMP_WAIT_POLICY=PASSIVE \
    GOMP_SPINCOUNT=5000 \
    PYTHONUNBUFFERED=1 \
    RAY_USAGE_STATS_ENABLED=0
ENTRYPOINT ["digitize"]
CMD ["--help"]
