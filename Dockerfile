# Hounsfield with everything in one container: API, worker, DICOM Cast and the embedded FHIR store.
#
#   docker build -t hounsfield .
#   docker run -p 127.0.0.1:8080:8080 -v hounsfield:/data hounsfield --allow-insecure
#
# Without --allow-insecure it wants DicomServer__Security__Enabled=true, as a container listens to the whole network.
FROM python:3.12-slim AS build
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
RUN python -m venv /opt/hounsfield \
    && /opt/hounsfield/bin/python -m pip install --no-cache-dir --constraint constraints.txt . \
    && /opt/hounsfield/bin/hounsfield viewer install

FROM python:3.12-slim
RUN useradd --uid 1654 --create-home hounsfield \
    && install --directory --owner hounsfield --group hounsfield --mode 0750 /data
COPY --from=build /opt/hounsfield /opt/hounsfield
ENV DicomServer__Features__EnableOhifViewer=true
USER hounsfield
VOLUME /data
EXPOSE 8080
STOPSIGNAL SIGTERM
# Without a host, whatever AllowedHosts is.
HEALTHCHECK --interval=10s --timeout=15s --start-period=60s \
    CMD ["/opt/hounsfield/bin/python", "-c", "import urllib.request as r; r.urlopen(r.Request('http://127.0.0.1:8080/health/check', headers={'Host': ''}))"]
ENTRYPOINT ["/opt/hounsfield/bin/hounsfield", "serve", "--host", "0.0.0.0", "--port", "8080", "--data-dir", "/data"]
