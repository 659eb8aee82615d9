#!/bin/sh
# What the comparison needs, all of it below .bench (ignored by git): a virtual environment with the peers at pinned
# versions, and the Restate server from npm. Perdure itself comes from the project's own .venv, with locked versions.
# Needs Python >= 3.11, npm, and PostgreSQL's server programs (initdb, postgres, psql).
set -eu
cd "$(dirname "$0")/../.."

RESTATE_SERVER=1.7.12

command -v npm >/dev/null || { echo "npm is missing: install Node.js to get the Restate server." >&2; exit 1; }
command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || {
    echo "initdb is missing: install PostgreSQL's server package, or put its bin directory on PATH." >&2
    exit 1
}

make .venv/perdure.stamp

python=$(sh tools/python.sh)
[ -x .bench/venv/bin/python ] || "$python" -m venv .bench/venv
.bench/venv/bin/python -m pip -qq --disable-pip-version-check install -r bench/peers/requirements.txt

# --ignore-scripts: one of its dependencies reports installations to a third party in a postinstall script.
npm install --prefix .bench/node --ignore-scripts --no-audit --no-fund --loglevel=error \
    "@restatedev/restate-server@$RESTATE_SERVER"

echo "Ready. Now: .bench/venv/bin/python bench/peers/run.py --quick"
