#!/bin/sh
# Installs what the tests talk to: PostgreSQL, Chromium and, as judges of compressed images, dcmtk and gdcm from the
# system's packages (Debian, needs root), Azurite, an OpenID Connect provider and Medplum's FHIR packages from npm into
# .peers (versions and hashes in package-lock.json beside this file). The S3 server (moto) comes with the Python
# development dependencies. Safe to repeat; does nothing when all is there.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
peers=$(cd "$here/../.." && pwd)/.peers

if ! ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 && ! command -v initdb >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        # The package would start a cluster of its own; the tests make theirs.
        mkdir -p /etc/postgresql-common
        [ -e /etc/postgresql-common/createcluster.conf ] ||
            echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends postgresql
    else
        echo "PostgreSQL is missing: install it (Debian: apt-get install postgresql), or its tests are skipped." >&2
    fi
fi

if ! command -v dcmdjpeg >/dev/null || ! command -v gdcmconv >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends dcmtk libgdcm-tools
    else
        echo "dcmtk or gdcm is missing: install them (Debian: apt-get install dcmtk libgdcm-tools), or tests are skipped." >&2
    fi
fi

if ! command -v chromium >/dev/null && ! command -v chromium-browser >/dev/null && ! command -v google-chrome >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium
    else
        echo "Chromium is missing: install it (Debian: apt-get install chromium), or the viewer's tests are skipped." >&2
    fi
fi

if ! command -v npm >/dev/null; then
    echo "npm is missing: install Node 20 or newer, or the tests with Azurite and the FHIR server are skipped." >&2
    exit 0
fi
mkdir -p "$peers"
if ! cmp -s "$here/package-lock.json" "$peers/installed-lock.json"; then
    cp "$here/package.json" "$here/package-lock.json" "$peers/"
    npm ci --prefix "$peers" --omit=dev --ignore-scripts --no-audit --no-fund --loglevel=error
    cp "$here/package-lock.json" "$peers/installed-lock.json"
fi
