# conversica-sync in an image of its own: the program, the four shared libraries that it is linked with, root certificates,
# and nothing else. No shell, no package manager, no root.
#
#     docker build --tag conversica-sync .
#     docker run --rm conversica-sync demo --once
#
# Not a static binary: getaddrinfo of a static glibc needs the very same glibc beside it, and a target for musl is not
# part of every toolchain. The libraries come from the image that it was built in, so they fit by construction.

# Debian with gcc, libc6-dev, ca-certificates and Rust 1.94 or newer; any other one of that kind will do:
#     docker build --build-arg BUILD_IMAGE=registry.example.com/rust:1.95 .
ARG BUILD_IMAGE=docker.io/library/rust:1.95-bookworm
# A bill of materials (docker build --sbom=true) lists the crates of Cargo.lock: the image itself names only a program and libraries.
ARG BUILDKIT_SBOM_SCAN_CONTEXT=true

FROM ${BUILD_IMAGE} AS build
WORKDIR /src

# First the dependencies alone, which change seldom and take most of the time: as long as these stay the same, this
# layer comes from the cache. The benchmarks are named by Cargo.toml, and Cargo wants to see them.
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
COPY benches benches
RUN mkdir src \
    && echo 'fn main() {}' > src/main.rs \
    && echo '' > src/lib.rs \
    && cargo build --locked --profile dist

COPY .askama.toml ./
COPY config config
COPY migrations migrations
COPY src src
# Cargo goes by the time of files: those of the clone may be older than the empty ones above.
RUN touch src/main.rs src/lib.rs && cargo build --locked --profile dist

# The root file system, piece by piece. Names are looked up by glibc itself (files and dns are built in since 2.34).
RUN set -eu; \
    program=target/dist/conversica-sync; \
    install -D "$program" /image/usr/bin/conversica-sync; \
    for library in $(ldd "$program" | grep -o '/[^ ]*'); do install -D "$library" "/image$library"; done; \
    install -D -m 0644 /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ca-certificates.crt; \
    for package in libc6 libgcc-s1 ca-certificates; do \
        install -D -m 0644 "/usr/share/doc/$package/copyright" "/image/usr/share/doc/$package/copyright"; \
    done; \
    echo 'hosts: files dns' > /image/etc/nsswitch.conf; \
    echo 'conversica-sync:x:65532:65532::/var/lib/conversica-sync:/usr/sbin/nologin' > /image/etc/passwd; \
    echo 'conversica-sync:x:65532:' > /image/etc/group; \
    install -d /image/etc/conversica-sync /image/var/lib; \
    install -d -m 1777 /image/tmp; \
    install -d -m 0700 /state/conversica-sync
COPY LICENSE /image/usr/share/doc/conversica-sync/copyright

FROM scratch
LABEL org.opencontainers.image.title="conversica-sync" \
      org.opencontainers.image.description="Keeps a CRM database (SQLite, PostgreSQL, MySQL or MariaDB) and Conversica in step" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /image /
# Its owner is what a new volume takes over.
COPY --from=build --chown=65532:65532 /state /var/lib

# A number, so that Kubernetes' runAsNonRoot can see that it is not root's.
USER 65532:65532
WORKDIR /var/lib/conversica-sync
# The state of the default settings lies here. It is what keeps people from being written to twice: name a volume for it, and keep
# that volume. The rest of the file system may be read-only.
VOLUME /var/lib/conversica-sync

# Fails the build where a library is missing.
RUN ["/usr/bin/conversica-sync", "--version"]

# Alive, not ready: a container that waits for a person, or for a database, is not mended by a restart.
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=3 CMD ["/usr/bin/conversica-sync", "health"]

# The program itself is process 1 and gets the signals. `docker stop` is to wait for what is on its way ([delivery] timeout):
# --stop-timeout, or stop_grace_period in compose.yaml.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/conversica-sync"]
CMD ["run"]
