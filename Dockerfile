# rvqvae on a CPU: docker build -t rvqvae . ; docker run -v "$PWD:/data" rvqvae clean photos --out cleaned
FROM python:3.12-slim AS build
WORKDIR /source
RUN pip install --no-cache-dir build
COPY pyproject.toml README.md LICENSE ./
COPY rvqvae rvqvae
RUN python -m build --wheel --outdir /wheels

FROM python:3.12-slim
# Where torch's own site keeps its CPU builds; empty for the build of the default index, with CUDA.
ARG TORCH_INDEX=""
COPY --from=build /wheels /wheels
RUN if [ -n "$TORCH_INDEX" ]; then \
        pip install --no-cache-dir --index-url "$TORCH_INDEX" torch torchvision; \
    fi && \
    pip install --no-cache-dir /wheels/*.whl && rm -r /wheels
RUN useradd --create-home user
USER user
WORKDIR /data
ENTRYPOINT ["rvqvae"]
