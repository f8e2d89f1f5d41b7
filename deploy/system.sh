#!/bin/sh
# Installs what the tests need beyond Python: Chromium, PostgreSQL, npm and a font, and bubblewrap for Python graders.
# Without root it prints how to install them. Without bubblewrap the tests that need it are skipped.
set -u
missing=""
command -v chromium >/dev/null 2>&1 || missing="$missing chromium"
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null 2>&1 || missing="$missing postgresql"
command -v npm >/dev/null 2>&1 || missing="$missing npm"
sandbox=""
command -v bwrap >/dev/null 2>&1 || sandbox=" bubblewrap"
[ -z "$missing$sandbox" ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "Installing$missing$sandbox through the system's packages"
    log=$(mktemp)
    if { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        $missing $sandbox fonts-dejavu-core; } >"$log" 2>&1; then
        rm -f "$log"
        exit 0
    fi
    echo "parley: the system's packages could not be installed: $(grep -m1 '^E:' "$log") (details: $log)" >&2
else
    echo "parley: the tests need$missing$sandbox. Install them: sudo apt-get install$missing$sandbox" >&2
fi
[ -z "$missing" ] && exit 0
exit 1
