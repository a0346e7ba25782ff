# The worker and the command line, each one static file, on an empty system.
#
#   docker build -t rekey .
#   docker run --rm rekey --help                                    # the worker
#   docker run --rm --entrypoint /usr/local/bin/rekey rekey --help  # the command line
#
# The programs are slim: Temporal runs beside them, in a container of its own (docker-compose.yml) or elsewhere.
# With Temporal's server, the demo and the simulators in them, for `--embedded` and `rekey demo`:
#
#   docker build -t rekey:embedded --build-arg TAGS= .

FROM golang:1.26.8-bookworm AS build
WORKDIR /src
# The modules first: they change less often than the code.
COPY go.mod go.sum ./
RUN go mod download
COPY . .
# Without the tag the build compiles a Temporal server and takes several minutes.
ARG TAGS=noembed
ENV CGO_ENABLED=0 GOFLAGS="-tags=${TAGS} -trimpath -buildvcs=false"
RUN go build -ldflags="-s -w" -o /out/bin/rekey-worker ./worker \
 && go build -ldflags="-s -w" -o /out/bin/rekey ./starter \
 && .ci/notice copy /out/licenses \
 && cp LICENSE NOTICE /out/licenses/ \
 && mkdir -p /out/etc/rekey /out/var/lib/rekey /out/tmp \
 && chmod 0700 /out/var/lib/rekey \
 && printf 'rekey:x:65532:65532::/var/lib/rekey:/sbin/nologin\n' > /out/etc/passwd \
 && printf 'rekey:x:65532:\n' > /out/etc/group

FROM scratch
# Providers and stores are reached over TLS, and schedules know time zones.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /usr/share/zoneinfo /usr/share/zoneinfo
COPY --from=build /out/etc /etc
COPY --from=build /out/bin /usr/local/bin
# rekey's licence and notice, and those of everything that is linked.
COPY --from=build /out/licenses /usr/share/licenses/rekey
# What a local store keeps; a volume that is mounted here for the first time takes over the owner.
COPY --from=build --chown=65532:65532 /out/var/lib/rekey /var/lib/rekey
COPY --from=build --chown=65532:65532 /out/tmp /tmp
ENV HOME=/var/lib/rekey
USER 65532:65532
# rekey.yaml is looked for here.
WORKDIR /etc/rekey
ENTRYPOINT ["/usr/local/bin/rekey-worker"]
