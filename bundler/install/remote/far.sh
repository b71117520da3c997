#!/bin/sh
# far.sh: what `airgap install --inventory` does on a host, over ssh, with what a minimal Debian has.
#
# It believes nothing and judges nothing: it tells what is there, hashes it, and begins the run that verifies.
# That run belongs to systemd, so that it goes on when the connection or the laptop is gone.
#
#   FOLDER/cargo/    what was carried: start, site.yml, far.sh, bundle/
#   FOLDER/start     the copy of start that was measured and runs
#   FOLDER/log       everything that the run said
#   FOLDER/result    its exit status, once it has ended
set -eu
umask 077
PATH=/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
SHELL=/bin/sh
export PATH LC_ALL SHELL
unset PYTHONPATH PYTHONHOME LD_PRELOAD LD_LIBRARY_PATH

UNIT=airgap-install.service
STATE=/var/lib/airgap/state.json

digest() { "$2sum" <"$1" | cut -d' ' -f1; } # file, algorithm

told() { # property -> what systemd says of the run; waited for, as systemd begins itself anew during an installation
    patience=60
    until systemctl show --property="$1" --value "$UNIT" 2>/dev/null; do
        patience=$((patience - 1))
        [ "$patience" -gt 0 ] || return 0
        sleep 1
    done
}

has_ended() { # a run of which systemd says nothing goes on
    case $(told ActiveState) in
        inactive | failed) ;;
        *) return 1 ;;
    esac
}

facts() { # folder, release's name, algorithm -> key=value
    near=$1
    while [ ! -d "$near" ]; do near=$(dirname "$near"); done
    printf 'uid=%s\n' "$(id -u)"
    printf 'free_bytes=%s\n' "$(df --block-size=1 --output=avail "$near" | tail -n 1 | tr -d ' ')"
    [ ! -f "$STATE" ] || printf 'state=%s\n' "$(base64 -w 0 "$STATE")"
    statement=/opt/airgap/releases/$2/carrier/statement.json
    [ ! -f "$statement" ] || printf 'statement=%s\n' "$(digest "$statement" "$3")"
    [ ! -f /etc/airgap/site.yml ] || printf 'site=%s\n' "$(digest /etc/airgap/site.yml "$3")"
    has_ended || printf 'running=%s\n' "$(told Description)"
}

leaves() { # folder, algorithm -> of every carried file a line with its path, then the digest of every 1 MiB of it
    sum=$2sum
    mkdir -p "$1/cargo"
    if [ ! -O "$1" ] || [ -L "$1" ]; then
        echo "$1: expected a folder of this user's, no link" >&2
        exit 20
    fi
    chmod 0700 "$1"
    cd "$1/cargo"
    find . ! -type f ! -type d -delete
    find . -mindepth 1 -type d -empty -delete # of the release before; start refuses folders that nobody signed
    find . -type f -printf '%P\n' | while IFS= read -r path; do
        printf 'file %s\n' "$path"
        split --bytes=1M --filter="$sum" "./$path"
    done
}

begin() { # folder, what this run is, fingerprint of the root, digest of start, lowest version or nothing
    rm -f "$1/result"
    : >"$1/log"
    systemd-run --quiet --collect --unit="$UNIT" --description="$2" \
        --property="StandardOutput=append:$1/log" --property="StandardError=append:$1/log" \
        /bin/sh "$1/cargo/far.sh" run "$1" "$3" "$4" "$5"
}

run() { # folder, fingerprint, digest of start, lowest version or nothing; in systemd's hands
    (attempt "$@") && status=0 || status=$?
    printf '%s\n' "$status" >"$1/result.part"
    mv -f "$1/result.part" "$1/result"
}

attempt() { # each step tells its own failure: no `set -e` inside of a condition
    cp "$1/cargo/start" "$1/start" || exit 42
    [ "${#3}" = 64 ] && algorithm=sha256 || algorithm=sha384
    found=$(digest "$1/start" "$algorithm")
    if [ "$found" != "$3" ]; then
        printf 'start: expected %s %s, found %s\n' "$algorithm" "$3" "$found" >&2
        exit 11
    fi
    installed=/opt/airgap/current/venv/bin/airgap
    if [ -x "$installed" ]; then
        # What this host believes already judges what comes: its own roots and memory, its own verifier.
        "$installed" verify "$1/cargo/bundle" --as-host --fingerprint "$2" ${4:+--minimum-version "$4"} || exit
    fi
    printf '%s\n' "$2" |
        sh "$1/start" "$1/cargo/bundle" --site "$1/cargo/site.yml" ${4:+--minimum-version "$4"} || exit
}

poll() { # folder, bytes of the log that were seen -> how it stands, then the rest of the log
    # Asked in this order: a run that ends in between has written its result.
    has_ended && state=gone || state=running
    [ ! -f "$1/result" ] || state=$(cat "$1/result")
    printf '%s\n' "$state"
    tail -c "+$(($2 + 1))" "$1/log"
}

clear() { # folder: room for the next release; log and result stay
    rm -rf "$1/cargo" "$1/start"
}

"$@"
