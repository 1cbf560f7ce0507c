# elemta in a container: not root, nothing writable but /var/lib/elemta, no capability.
#   docker build -t elemta .
#   docker run -p 25:25 -v elemta:/var/lib/elemta -v ./elemta.toml:/etc/elemta/elemta.toml:ro elemta
# BASE_IMAGE may be any image with Python 3.11 or newer and its venv module.
ARG BASE_IMAGE=python:3.13-slim-bookworm

FROM ${BASE_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY conf ./conf
COPY systemd ./systemd
COPY plugins ./plugins
COPY elemta ./elemta
RUN python3 -m venv /opt/elemta \
 && /opt/elemta/bin/pip install . \
 && /opt/elemta/bin/pip uninstall --yes pip \
 && rm -rf /opt/elemta/lib/python3*/site-packages/apsw/sqlite_extra_binaries /opt/elemta/share

FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="elemta" \
      org.opencontainers.image.description="Mail transfer agent on Trio" \
      org.opencontainers.image.licenses="MIT"
RUN groupadd --system --gid 10001 elemta \
 && useradd --system --uid 10001 --gid 10001 --home-dir /var/lib/elemta --shell /usr/sbin/nologin elemta \
 && install -d -m 700 -o 10001 -g 10001 /var/lib/elemta
COPY --from=build /opt/elemta /opt/elemta
COPY plugins /usr/share/elemta/plugins
COPY deploy/docker/elemta.toml /etc/elemta/elemta.toml
ENV PATH=/opt/elemta/bin:$PATH PYTHONDONTWRITEBYTECODE=1 ELEMTA_CONFIG=/etc/elemta/elemta.toml
USER 10001:10001
WORKDIR /var/lib/elemta
VOLUME ["/var/lib/elemta"]
EXPOSE 25 465 587 8025
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=10s --start-period=20s --retries=3 CMD ["elemta", "status", "--json"]
ENTRYPOINT ["elemta"]
CMD ["run"]
