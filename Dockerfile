# `transformers-tcm serve` on the processor, as a user without rights, with the bundled spotter inside.
#
#   docker build -t transformers-tcm .
#   docker run -p 8000:8000 transformers-tcm
#
# scripts/check_dockerfile.py runs these steps without Docker, which is why paths in RUN are relative.

FROM python:3.12-slim-bookworm AS wheel
WORKDIR /sources
COPY LICENSE README.md pyproject.toml setup.cfg ./
COPY src src
RUN pip wheel --no-deps --wheel-dir wheels .

FROM python:3.12-slim-bookworm
# Builds of torch without CUDA, a tenth of the size of PyPI's.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# More of them for models that are exported: --build-arg EXTRAS=serve,onnx
ARG EXTRAS=serve
RUN useradd --create-home --uid 10001 service
WORKDIR /service
COPY constraints.txt ./
COPY --from=wheel /sources/wheels wheels
RUN pip install --no-cache-dir --constraint constraints.txt --extra-index-url "$TORCH_INDEX" \
    "$(echo wheels/*.whl)[$EXTRAS]"
ENV PYTHONUNBUFFERED=1
USER service
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=10s --start-period=120s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/healthz', timeout=8)"]
ENTRYPOINT ["transformers-tcm", "serve", "--host", "0.0.0.0"]
