#!/bin/sh
# Prints a Python that Perdure can run on: $PYTHON if it is set, else the first on this machine that will do.
# With a version such as 3.12: exactly that one. Without any: one sentence, and exit code 1.
pyenv=${PYENV_ROOT:-$HOME/.pyenv}/versions
if [ -n "${1:-}" ]; then
    set -- "$1" "python$1" "$pyenv/$1".*/bin/python
elif [ -n "${PYTHON:-}" ]; then
    set -- "" "$PYTHON"
else
    set -- "" python3 python3.14 python3.13 python3.12 python3.11 "$pyenv"/3.1[1-9].*/bin/python
fi
version=$1
shift

# Some Pythons are there in name only (a version manager's shims, Debian without python3-venv): ask each, do not just look.
fits="import ensurepip, sys, venv; v = sys.version_info; sys.exit(v < (3, 11) or '$version' not in ('', '%d.%d' % v[:2]))"
for python; do
    if "$python" -c "$fits" 2>/dev/null; then
        command -v "$python"
        exit
    fi
done

echo "Perdure needs Python ${version:-3.11 or newer} with venv and ensurepip and found none among: $*. Install it" \
    "(Debian, Ubuntu: apt install python3 python3-venv) or name one with make PYTHON=/path/to/python3." >&2
exit 1
