# The README's quick start on a Debian without any Python; see docs/guide.md, "In a container".
#   docker build -t igr .
#   docker run --rm -v "$PWD:/scans" igr reconstruct scan.ply
FROM debian:bookworm-slim
ENV PIP_NO_CACHE_DIR=1
COPY . /igr
# root, so commands.sh brings Debian's packages, too; the lists of what there is are not kept
RUN cd /igr && bash commands.sh demo && rm -rf /var/lib/apt/lists/*
WORKDIR /scans
ENTRYPOINT ["bash", "/igr/commands.sh"]
CMD ["help"]
