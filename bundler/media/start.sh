#!/bin/sh
# start: the first steps on a bare host, from a medium that nobody has a reason to trust yet.
#
#   1. Mount the small partition so that nothing on it can run:
#        mount -o ro,nosuid,nodev,noexec /dev/disk/by-partlabel/airgap-start /mnt
#   2. Copy this file to a folder of root's, and compare its digest with the paper that came another way
#      (sha384sum where the paper says sha384):
#        install -D -m 0700 /mnt/start /root/airgap/start && sha256sum /root/airgap/start
#   3. Run the copy:
#        sh /root/airgap/start /mnt --site /root/site/site.yml --minimum-version N
#      N stands on the paper too; a host that has installed a release before remembers its version, and needs none.
#
# What it does: installs the few packages named by digest below; checks the encrypted partition's header and
# opens it; copies all but the models to a folder of root's; asks for the root's fingerprint; checks roots,
# revocations, signatures (openssl) and digests (sha256sum or sha384sum); lets the release that runs here judge, if one does;
# makes a private Python from the medium's wheels; hands over to `airgap install`, which checks everything once more.
# Nothing is fetched. Exit codes: docs/reference/exit-codes.md.
#
# `sh start --check FOLDER` only checks an opened bundle (a folder with sealed/ and carrier/), models included,
# and changes nothing; it needs no root.
#
# `sh start /mnt --stage NEW` sets up a laptop that carries to many hosts: it does the same up to the private Python,
# then lays the checked bundle down in the folder NEW, and does not install. Such a folder stands for a medium.
set -eu
umask 077
PATH=/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL
unset PYTHONPATH PYTHONHOME LD_PRELOAD LD_LIBRARY_PATH

BUNDLE='@BUNDLE@'
BOOTSTRAP='@BOOTSTRAP_DIGEST@'
WORK=/var/lib/airgap/incoming
RELEASES=/opt/airgap/releases
INSTALLED=/opt/airgap/current/venv/bin/airgap
STATE=/var/lib/airgap/state.json
MAPPER=airgap-medium

say() { printf '==> %s\n' "$1" >&2; }
die() { # code, message, next
    printf 'start: %s\n  next: %s\n' "$(printable "$2")" "$3" >&2
    exit "$1"
}
note() { printf '    %s\n' "$(printable "$1")" >&2; }
#@VERIFY@
secret() { # prompt -> standard output; typed text is not shown, not even what is typed before the prompt is read
    [ ! -t 0 ] || stty -echo
    printf '%s: ' "$1" >&2
    answer=''
    IFS= read -r answer || : # the end without a line's end is an answer, too
    [ ! -t 0 ] || stty echo
    printf '\n' >&2
    printf %s "$answer"
}
usage='sh start FOLDER [--medium-passphrase-file FILE] --site FILE [--minimum-version N] [--downgrade-order FILE]
        (or: --stage NEW), or: sh start --check BUNDLE'

mode=install
if [ "${1:-}" = --check ]; then
    mode=check
    shift
fi
[ $# -ge 1 ] || die 2 'no folder given' "$usage"
here=$(readlink -m "$1")
shift
passphrase_file=
if [ "${1:-}" = --medium-passphrase-file ]; then
    [ $# -ge 2 ] || die 2 'no file given' "$usage"
    passphrase_file=$(readlink -m "$2")
    shift 2
fi
if [ "$mode/${1:-}" = install/--stage ]; then
    [ $# -eq 2 ] || die 2 'expected one new folder' "$usage"
    mode=stage
    stage=$(readlink -m "$2")
    [ ! -e "$stage" ] || die 20 "$stage: expected a new folder, found one" 'remove it, or name another'
fi
self=$(readlink -f "$0")
if [ "$mode" = check ]; then
    [ -d "$here/sealed" ] || die 20 "$here: expected a folder with sealed/ and carrier/" "$usage"
    WORK=$(mktemp -d)
else
    [ "$(id -u)" = 0 ] || die 20 'expected root' "run: su -, then $usage"
    [ -f "$here/bootstrap/SHA256SUMS" ] || [ -f "$here/bootstrap/SHA384SUMS" ] || die 20 "$here: expected the mounted airgap-start partition" "$usage"
    case $self in
        "$here"/*) die 20 'running from the medium itself' 'copy start to a folder of root'\''s first' ;;
    esac
fi
if [ "$mode" = install ]; then # what stands in the arguments besides these two is for airgap install alone
    minimum='' order='' word=''
    for next in "$@"; do # files by their whole names, since it runs elsewhere than it was typed
        shift
        case $word/$next in
            --minimum-version/*) minimum=$next ;;
            --downgrade-order/*) next=$(readlink -m "$next") order=$next ;;
            --site/*) next=$(readlink -m "$next") ;;
            */--minimum-version=*) minimum=${next#*=} ;;
            */--downgrade-order=*) order=$(readlink -m "${next#*=}") next=--downgrade-order=$order ;;
            */--site=*) next=--site=$(readlink -m "${next#*=}") ;;
        esac
        word=$next
        set -- "$@" "$next"
    done
    case $minimum in
        *[!0-9]*) die 21 "--minimum-version $minimum: expected a number" "$usage" ;;
        '') grep -qs '"version": *[1-9]' "$STATE" ||
            die 21 'this host remembers no release: expected --minimum-version N, the lowest version, from the paper' "$usage" ;;
    esac
fi
[ "${#BOOTSTRAP}" != 96 ] || sha=sha384
say "airgap start, bundle $BUNDLE, $sha of this script:"
printf '    %s\n    (it must be on the paper that came another way)\n' "$(digest "$0")" >&2

# shellcheck disable=SC2317 # called by the trap
cleanup() {
    status=$?
    [ ! -t 0 ] || stty echo
    if [ "$mode" = check ]; then
        rm -rf "$WORK"
    elif [ "$mine" = yes ] && [ "$status" != 0 ]; then
        umount "$WORK/medium" 2>/dev/null || :
        cryptsetup close "$MAPPER" 2>/dev/null || :
        rm -rf "$WORK/copy" "$WORK/bootstrap"
    fi
    exit "$status"
}
mine=no # yes: what lies in $WORK is this run's
trap cleanup EXIT
trap 'exit 130' INT TERM HUP

# --- Packages that the rest needs: by digest, from a private copy, without any source ---------------------------
install_bootstrap() {
    say 'packages that opening the medium needs'
    cp -R --no-preserve=all "$here/bootstrap" "$WORK/bootstrap"
    cd "$WORK/bootstrap"
    list=SHA256SUMS
    [ "$sha" = sha256 ] || list=SHA384SUMS
    is "$list" "$BOOTSTRAP" || die 11 "bootstrap/$list: not the list that start names" "$again"
    if [ ! -s "$list" ]; then # a bundle that was locked for a host that has them all
        cd "$WORK"
        return
    fi
    ! grep -qvE "^[0-9a-f]{${#BOOTSTRAP}}  [A-Za-z0-9][A-Za-z0-9._+~%-]*\.deb\$" "$list" || die 13 "bootstrap/$list: bad line" "$again"
    "${sha}sum" -c --strict --quiet "$list" >&2 || die 11 'bootstrap: a package differs from its digest' "$again"
    sed 's|^[0-9a-f]*  |./|' "$list" >../debs
    if { [ "$mode" = stage ] || [ -x "$INSTALLED" ]; } && command -v openssl >/dev/null && command -v cryptsetup >/dev/null &&
        python3 -I -c 'import venv' 2>/dev/null; then
        cd "$WORK" # what is there already, perhaps newer, will do on a laptop and beside a release
        return
    fi
    # What a killed run left half done; its dpkg may still be at it, since that outlives an apt-get that is killed.
    patience=600
    until dpkg --configure -a --force-confdef --force-confold >../apt.log 2>&1 || ! grep -q 'lock was locked' ../apt.log; do
        patience=$((patience - 1))
        [ "$patience" -gt 0 ] || die 46 'dpkg: expected that it ends, found it at work for ten minutes' 'pgrep -a dpkg'
        sleep 1
    done
    # Installed in one go, in apt's order, from these files alone: no source, no recommendation, nothing removed.
    xargs env -i PATH="$PATH" LC_ALL=C DEBIAN_FRONTEND=noninteractive apt-get -qq --yes \
        --no-install-recommends --no-remove -oDir::Etc::sourcelist=/dev/null -oDir::Etc::sourceparts=/dev/null \
        -oAPT::Sandbox::User=root -oDPkg::Lock::Timeout=300 install <../debs >>../apt.log 2>&1 ||
        { tail -n 20 ../apt.log >&2; die 42 'apt-get: the packages of bootstrap/ do not install' "see $WORK/apt.log"; }
    cd "$WORK"
}

# --- The encrypted partition: its header is judged from a private copy, and opened with that copy -----------------
open_medium() {
    say 'encrypted partition'
    first=$(findmnt -no SOURCE --target "$here")
    disk=$(lsblk -dnpo PKNAME "$first")
    source=$(lsblk -dno SERIAL "$disk")
    second=$(lsblk -lnpo NAME,PARTLABEL "$disk" | awk '$2 == "airgap-sealed" { print $1 }')
    [ "$(printf '%s\n' "$second" | grep -c .)" = 1 ] || die 22 "$disk: expected one partition named airgap-sealed" "$again"
    { cryptsetup luksHeaderBackup "$second" --header-backup-file "$WORK/header" &&
        cryptsetup luksDump --dump-json-metadata "$WORK/header" >"$WORK/header.json"; } ||
        die 13 "$second: expected a LUKS2 header, found none that cryptsetup reads" "$again"
    python3 -I - "$WORK/header.json" <<'CHECK' || die 13 "$second: its LUKS header is not one that airgap burn writes" "$again"
import json, sys
header = json.load(open(sys.argv[1]))
segments, slots = list(header["segments"].values()), list(header["keyslots"].values())
good = (
    len(segments) == 1 and segments[0]["type"] == "crypt" and segments[0]["encryption"] == "aes-xts-plain64"
    and "integrity" not in segments[0] and not segments[0].get("flags")
    and not header["tokens"] and not header["config"].get("requirements") and not header["config"].get("flags")
    and slots and all(
        slot["type"] == "luks2" and slot["key_size"] == 64 and slot["area"]["type"] == "raw"
        and slot["kdf"]["type"] == "argon2id" and slot["kdf"]["memory"] <= 262144 and slot["kdf"]["time"] <= 256
        for slot in slots
    )
)
sys.exit(0 if good else 1)
CHECK
    # Without its last newline, as at burning; printf is built in, so that the passphrase is in no argument list.
    { if [ -n "$passphrase_file" ]; then printf %s "$(cat "$passphrase_file")"; else secret 'Passphrase of the medium'; fi; } |
        cryptsetup open --type luks2 --readonly --header "$WORK/header" --key-file - "$second" "$MAPPER" ||
        die 24 "$second: the passphrase does not open it" 'try again'
    mount -t ext4 -o ro,nosuid,nodev,noexec "/dev/mapper/$MAPPER" "$WORK/medium"
}

kit=$here/audit # beside start, for whoever audits the folder that --stage makes
source=$here    # for the ledger; of a medium its serial
if [ "$mode" != check ]; then
    exec 9>/run/airgap-start.lock
    flock -n 9 || die 46 'another start runs on this host' 'wait for it to end'
    mine=yes
    mkdir -p "$WORK" "$RELEASES"
    umount "$WORK/medium" 2>/dev/null || :
    [ ! -e "/dev/mapper/$MAPPER" ] || cryptsetup close "$MAPPER"
    rm -rf "$WORK"
    mkdir -p "$WORK/medium"
    install_bootstrap
    if [ -d "$here/sealed" ]; then
        say 'no encrypted partition: a folder that --stage made'
    else
        open_medium
        here=$WORK/medium
    fi
fi

# --- From here on only a private copy counts; the root is typed by a person, from paper -----------------------------
models='data/models/'
say 'private copy of all but the models'
private_copy "^sealed/$models"
printf 'Fingerprint of the root, all of it, from the paper: ' >&2
typed=''
IFS= read -r typed || :
believe_roots "$typed"
if [ "$mode" = install ] && [ ! -x "$INSTALLED" ] && grep -qs '"root_fingerprint": "' "$STATE" && ! grep -q "\"$pinned\"" "$STATE"; then
    die 14 "root: this host pinned another fingerprint than $pinned" 'type the one that was given to airgap trust pin'
fi
believe_revocations
judge_statement
judge_list
judge_copied "$models"
if [ "$mode" = check ]; then
    say 'models'
    judge_stayed "$models" "$here"
    printf 'accepted\n'
    exit 0
fi

# --- The release that runs here judges with what this host remembers, before anything of the new one is made or run ---
if [ "$mode" = install ] && [ -x "$INSTALLED" ]; then
    say 'the installed release judges'
    env -i PATH="$PATH" LC_ALL=C.UTF-8 HOME=/root TERM="${TERM:-dumb}" "$INSTALLED" verify "$WORK/copy" --as-host \
        --models "$here/sealed/data/models" --fingerprint "$pinned" ${minimum:+--minimum-version "$minimum"} \
        ${order:+--downgrade-order "$order"} >&2 || exit
fi

# --- The release's folder and its private Python --------------------------------------------------------------------
release=$RELEASES/$(fact bundle)-$(fact version)
if [ ! -e "$release/venv/complete" ] || ! cmp -s "sealed/$list" "$release/sealed/$list"; then
    say "private Python in $release"
    rm -rf "$release"
    mkdir -p "$release"
    chmod 0755 "${RELEASES%/*}" "$RELEASES" "$release"
    cp -R sealed "$release/"
    chmod -R u=rwX,go=rX "$release"
    set +e # in `( ) || ...` a shell goes on after an error, whatever was set
    (
        set -e
        umask 022
        env -i PATH="$PATH" LC_ALL=C python3 -I -m venv --without-pip "$release/venv"
        # The medium's own pip: Debian's brings the public certificate authorities with it.
        env -i PATH="$PATH" LC_ALL=C python3 -I -m zipfile -e sealed/data/wheels/pip-*.whl "$release"/venv/lib/python3*/site-packages
        env -i PATH="$PATH" HOME=/nonexistent LC_ALL=C "$release/venv/bin/python" -I -m pip --isolated --quiet \
            --disable-pip-version-check --no-cache-dir install --no-index --no-deps --only-binary :all: \
            --require-hashes --find-links sealed/data/wheels -r sealed/data/wheels/control.txt
        sed -i '1s/$/ -I/' "$release/venv/bin/airgap" # no PYTHON* variable of its callers has a say
        sync -f "$release" # or a host that loses its power has the mark, and empty files beside it
        : >"$release/venv/complete"
    ) >&2
    made=$?
    set -e
    [ "$made" = 0 ] || { rm -rf "$release/venv"; die 42 'the wheels of the medium do not install; why is told above' 'df -h; run it again'; }
fi
# The same bundle may come with other signatures, or a newer list of revocations: what was just judged counts.
rm -rf "$release/carrier.part"
cp -R carrier "$release/carrier.part" ||
    die 43 "$release/carrier.part: signatures, roots and revocations do not fit" "df -h $RELEASES; run it again"
chmod -R u=rwX,go=rX "$release/carrier.part"
rm -rf "$release/carrier"
mv "$release/carrier.part" "$release/carrier"
sync -f "$release"

close_medium() {
    ! mountpoint -q "$WORK/medium" || umount "$WORK/medium"
    [ ! -e "/dev/mapper/$MAPPER" ] || cryptsetup close "$MAPPER"
}

# --- A laptop ends here, with a folder that stands for the medium ---------------------------------------------------
if [ "$mode" = stage ]; then
    say "bundle to carry in $stage"
    rm -rf "$stage.part"
    mkdir -p "$stage.part"
    cp -R sealed carrier "$WORK/bootstrap" "$stage.part/"
    cp "$self" "$stage.part/start"
    [ ! -d "$kit" ] || cp -R --no-preserve=all "$kit" "$stage.part/audit"
    grep '^sealed/data/models/' "$WORK/files" >"$WORK/models" || :
    (cd "$here" && xargs -r cp --parents --no-preserve=all -t "$stage.part" <"$WORK/models") ||
        die 43 "$stage.part: the models do not fit, or the medium cannot be read" 'name a folder with more room'
    judge_stayed "$models" "$stage.part"
    sync -f "$stage.part"
    mv "$stage.part" "$stage"
    cd /
    close_medium
    rm -rf "$WORK"
    printf 'next: %s install %s --inventory FILE --fingerprint %s --start-digest %s --minimum-version N\n' \
        "$release/venv/bin/airgap" "$stage" "$pinned" "$(digest "$self")"
    exit 0
fi

# --- From here on the release's own verifier and installer ----------------------------------------------------------
say 'airgap install'
rm -rf "$WORK/copy" "$WORK/bootstrap"
cd /
status=0
env -i PATH="$PATH" LC_ALL=C.UTF-8 HOME=/root TERM="${TERM:-dumb}" "$release/venv/bin/airgap" install "$release" \
    --models "$here/sealed/data/models" --fingerprint "$pinned" --received-from "$source" "$@" || status=$?
close_medium
exit "$status"
