# The proxy as a small image: no compiler, no shell tricks, no root, nothing written to disk.
FROM python:3.11-slim-bookworm AS build
WORKDIR /build
RUN python -m venv /opt/dragoman
COPY requirements.lock ./
RUN /opt/dragoman/bin/pip install --no-cache-dir --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY proxy proxy
COPY plugins plugins
RUN /opt/dragoman/bin/pip install --no-cache-dir --no-deps .

FROM python:3.11-slim-bookworm
COPY --from=build /opt/dragoman /opt/dragoman
# In a container the network is the container's: other machines reach what is published.
ENV PATH=/opt/dragoman/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    DRAGOMAN_SERVER__HOST=0.0.0.0 \
    DRAGOMAN_SERVER__ADMIN_HOST=0.0.0.0
USER 65532:65532
EXPOSE 8080 8081
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8081/healthz', timeout=2)"]
ENTRYPOINT ["dragoman"]
CMD ["serve"]
