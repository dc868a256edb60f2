#!/usr/bin/env bash
# Download meshes of the Stanford 3D Scanning Repository into stanford_3d_scanning_datasets/.
#
#   bash downloads.sh                 all of them (about 0.6 GB to fetch, 1.5 GB unpacked)
#   bash downloads.sh bunny dragon    some of them
#
# The same command continues a download that was interrupted. Meshes that are there are not fetched
# again. STANFORD_URL names another server with the same paths.
#
# Terms: the meshes are free for research; commercial use needs permission. Acknowledge the Stanford
# Computer Graphics Laboratory, and XYZ RGB Inc. for rgb_dragon, manuscript and statuette.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

URL=${STANFORD_URL:-http://graphics.stanford.edu}
FOLDER=stanford_3d_scanning_datasets

# name, path on the server, mesh in the archive, least size of the mesh in bytes, its sha256 or -
FILES="
bunny       pub/3Dscanrep/bunny.tar.gz                      bunny/reconstruction/bun_zipper.ply        3033195    b1acc63bece78444aa2e15bdcc72371a201279b98c6f5d4b74c993d02f0566fe
drill       pub/3Dscanrep/drill.tar.gz                      drill/reconstruction/drill_shaft_vrip.ply  100000     -
happy       pub/3Dscanrep/happy/happy_recon.tar.gz          happy_recon/happy_vrip.ply                 20000000   -
dragon      pub/3Dscanrep/dragon/dragon_recon.tar.gz        dragon_recon/dragon_vrip.ply               16000000   -
lucy        data/3Dscanrep/lucy.tar.gz                      lucy.ply                                   500000000  -
armadillo   pub/3Dscanrep/armadillo/Armadillo.ply.gz        Armadillo.ply                              4000000    -
rgb_dragon  data/3Dscanrep/xyzrgb/xyzrgb_dragon.ply.gz      xyzrgb_dragon.ply                          100000000  -
manuscript  data/3Dscanrep/xyzrgb/xyzrgb_manuscript.ply.gz  xyzrgb_manuscript.ply                      60000000   -
statuette   data/3Dscanrep/xyzrgb/xyzrgb_statuette.ply.gz   xyzrgb_statuette.ply                       150000000  -
"

files() { # prints the rows of FILES
    echo "$FILES" | sed '/^$/d'
}

complain() { echo "downloads.sh: $*" >&2; }

good() { # good FILE SIZE SHA256: is it there, large enough and, where its hash is known, the same?
    [ -f "$1" ] && [ "$(wc -c <"$1")" -ge "$2" ] || return 1
    [ "$3" = - ] || [ "$(sha256sum "$1" | cut -d' ' -f1)" = "$3" ]
}

fetch() { # fetch ADDRESS FILE: into FILE.part first, after what is in it already
    local status=0 code
    if ! command -v curl >/dev/null; then
        wget --continue --tries=3 --output-document="$2.part" "$1" || return 1
        mv "$2.part" "$2"
        return
    fi
    code=$(curl --fail --location --retry 3 --progress-bar --continue-at - --output "$2.part" \
        --write-out '%{http_code}' "$1") || status=$?
    # 33, 36: the server cannot continue a download; 416: it has nothing after the part
    if [ $status = 33 ] || [ $status = 36 ] || [ "$code" = 416 ]; then
        rm -f "$2.part"
        status=0
        curl --fail --location --retry 3 --progress-bar --output "$2.part" "$1" || status=$?
    fi
    [ $status = 0 ] || return 1
    mv "$2.part" "$2"
}

unpack() { # unpack ARCHIVE MESH: beside its place first, so that no half a mesh is left there
    case $1 in
        *.tar.gz)
            rm -rf "$FOLDER/.unpacking"
            mkdir "$FOLDER/.unpacking" || return 1
            tar -xzf "$1" -C "$FOLDER/.unpacking" || return 1
            cp -r "$FOLDER/.unpacking/." "$FOLDER/" || return 1
            rm -rf "$FOLDER/.unpacking"
            ;;
        *) gzip -dc "$1" >"$2.part" && mv "$2.part" "$2" ;;
    esac
}

kept() { # kept PART: prints what is said of a part of a download, if there is one
    if [ -s "$1" ]; then echo "; the part that came is kept, run again to continue"; fi
}

reject() { # reject NAME ARCHIVE OLD REASON: set it aside; fetch anew if OLD, from an earlier call
    mv "$2" "$2.bad"
    if [ "$3" = yes ]; then
        complain "$1: $4; set aside as $2.bad, fetching it anew"
        download "$1"
        return
    fi
    complain "$1: $4; set aside as $2.bad, run again to fetch it anew"
    return 1
}

download() { # download NAME: fetch, unpack and check one row of FILES
    local name path mesh size sha archive old
    read -r name path mesh size sha < <(files | grep "^$1 ")
    if good "$FOLDER/$mesh" "$size" "$sha"; then
        echo "$FOLDER/$mesh is already there"
        return
    fi
    archive=$FOLDER/${path##*/}
    old=no
    if [ -f "$archive" ]; then old=yes; fi
    [ $old = yes ] || fetch "$URL/$path" "$archive" || {
        complain "$name: could not fetch $URL/$path$(kept "$archive.part")"
        return 1
    }
    if ! gzip -t "$archive" 2>/dev/null; then
        reject "$name" "$archive" $old "$archive is not a complete gzip file"
        return
    fi
    unpack "$archive" "$FOLDER/$mesh" || {
        complain "$name: could not unpack $archive (is the disk full?); the archive is kept"
        return 1
    }
    if ! good "$FOLDER/$mesh" "$size" "$sha"; then
        reject "$name" "$archive" $old "$FOLDER/$mesh is not the file that is expected, by size or sha256"
        return
    fi
    rm -f "$archive"
    echo "$FOLDER/$mesh"
}

names=("$@")
[ $# -gt 0 ] || mapfile -t names < <(files | cut -d' ' -f1)
for name in "${names[@]}"; do
    files | grep -q "^$name " || {
        complain "unknown name '$name'; the names are $(files | cut -d' ' -f1 | tr '\n' ' ')"
        exit 2
    }
done
mkdir -p "$FOLDER"
failed=()
for name in "${names[@]}"; do
    download "$name" || failed+=("$name")
done
if [ ${#failed[@]} -gt 0 ]; then
    complain "failed: ${failed[*]}"
    exit 1
fi
